"""A database that is away costs a group nothing but time."""

import math

import pytest
import uvloop

from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.errors import StoreUnavailableError
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.support import Clock, new_database, new_queue, params, submit


class Flaky:
    """A queue that fails as often as it is told before it answers."""

    def __init__(self, queue: object) -> None:
        self._queue = queue
        self.failures = 0

    def __getattr__(self, name: str):
        def call(*arguments: object):
            if self.failures > 0:
                self.failures -= 1
                raise StoreUnavailableError
            return getattr(self._queue, name)(*arguments)

        return call


@pytest.fixture
def stage(tmp_path):
    """A patient queue on a flaky one, the real one, and the pauses that were made."""
    database = new_database(tmp_path / "tasks.db")
    real, clock, pauses = new_queue(TaskStore(database)), Clock(), []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds

    flaky = Flaky(real)
    yield PatientQueue(flaky, "me", clock, sleep), flaky, real, pauses
    database.dispose()


def claimed(patient: PatientQueue, real) -> Task:
    submit(real, [params()])
    [task] = uvloop.run(patient.claim(math.inf))
    return task


def test_what_was_done_is_written_down_once_the_database_answers(stage):
    patient, flaky, real, pauses = stage
    task = claimed(patient, real)
    flaky.failures = 3
    assert uvloop.run(patient.complete((task.id, 1), ["a.png"], {}, 7))
    assert real.get(task.id).state is TaskState.COMPLETED
    assert len(pauses) == 3


def test_a_crash_is_told_as_often_as_it_takes_and_counts_once(stage):
    patient, flaky, real, _ = stage
    task = claimed(patient, real)
    flaky.failures = 2
    assert not uvloop.run(patient.crashed(task, "rank 0 left"))
    assert real.get(task.id).crashes == 1
    for _ in range(2):
        [task] = uvloop.run(patient.claim(math.inf))
        failed = uvloop.run(patient.crashed(task, "rank 0 left"))
    assert failed
    assert real.get(task.id).state is TaskState.FAILED


def test_what_can_wait_is_not_insisted_on(stage):
    patient, flaky, real, pauses = stage
    task = claimed(patient, real)
    flaky.failures = 3
    assert uvloop.run(patient.beat({(task.id, 1): 2})) is None
    assert uvloop.run(patient.claim(math.inf)) == []
    assert not uvloop.run(patient.is_idle())
    assert pauses == []
    assert uvloop.run(patient.is_idle())
    assert uvloop.run(patient.beat({(task.id, 7): 2})) == {(task.id, 7)}


def test_patience_ends_when_it_is_told_to(stage):
    patient, flaky, real, pauses = stage
    task = claimed(patient, real)
    flaky.failures = 1000
    patient.give_up_at(2.0)
    with pytest.raises(StoreUnavailableError):
        uvloop.run(patient.hand_back((task.id, 1), "tested"))
    assert sum(pauses) == pytest.approx(2.0)
    assert real.get(task.id).state is TaskState.PROCESSING
    assert real.take_back("me") == 1


def test_what_was_written_though_the_answer_was_lost_is_done(stage):
    patient, _, real, _ = stage
    for verb, arguments, state in (
        ("complete", (["a.png"], {}, 7), TaskState.COMPLETED),
        ("fail", ("no memory",), TaskState.FAILED),
    ):
        task = claimed(patient, real)
        assert getattr(real, verb)((task.id, 1), *arguments)
        assert uvloop.run(getattr(patient, verb)((task.id, 1), *arguments))
        assert real.get(task.id).state is state


def test_what_another_attempt_holds_is_not_done(stage):
    patient, _, real, _ = stage
    task = claimed(patient, real)
    real.take_back("me")
    assert not uvloop.run(patient.complete((task.id, 1), ["a.png"], {}, 7))
    assert not uvloop.run(patient.fail((task.id, 1), "no memory"))
