"""Leases of what a group has on hand, and writes; the rest is tried with the supervisor."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.recorder import TaskEvent
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.errors import ResultsUnavailableError, StoreUnavailableError
from hidream_server.ipc.messages import (
    Checkpoint,
    ImageDone,
    Preview,
    StepDone,
    TaskBegun,
    TaskDone,
    TaskFailed,
)
from hidream_server.observer import EndReason, Observer
from hidream_server.queue.task_queue import LEASE_S
from hidream_server.store.folder import Folder
from hidream_server.store.pictures import checkpoint_key, preview_key
from hidream_server.store.results import Results, in_folder
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.support import Clock, new_database, new_outlook, new_queue, params, submit


class Listener(Observer):
    """Writes down which attempts were left, and what failed for which reason."""

    def __init__(self) -> None:
        self.left_attempts: list[tuple[str, int]] = []
        self.failures: list[tuple[str, EndReason]] = []

    def left(self, task: Task) -> None:
        self.left_attempts.append((task.id, task.attempt))

    def failed(self, task_id: str, reason: EndReason) -> None:
        self.failures.append((task_id, reason))


async def recorded(running: RunningTasks, *events: TaskEvent) -> None:
    """Record events, and see written what they leave behind."""
    for event in events:
        await running.record(event)
    await running.settle()


def read(running: RunningTasks, task: Task) -> bytes | None:
    """Return what an attempt would go on from."""
    return uvloop.run(running.checkpoint_of(task))


def image_of(task: Task) -> ImageDone:
    return ImageDone(task_id=task.id, attempt=task.attempt, image_index=0, data=b"PNG")


def end_of(task: Task) -> TaskDone:
    return TaskDone(task_id=task.id, attempt=task.attempt, timings={})


class Away(Folder):
    """A folder that can be away, as an object store can."""

    away: Exception | None = ResultsUnavailableError()

    def put(self, name: str, data: bytes) -> None:
        self._require()
        super().put(name, data)

    def get(self, name: str) -> bytes | None:
        self._require()
        return super().get(name)

    def drop(self, name: str) -> None:
        self._require()
        super().drop(name)

    def _require(self) -> None:
        if self.away is not None:
            raise self.away


class Slow(Folder):
    """A folder in which every write waits until it may go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.began, self.may_go_on = threading.Event(), threading.Event()
        self.written: list[bytes] = []

    def put(self, name: str, data: bytes) -> None:
        self.began.set()
        assert self.may_go_on.wait(30)
        self.written.append(data)
        super().put(name, data)


class Sleep:
    """What is done in place of sleeping."""

    def __init__(self) -> None:
        self.does: Callable[[float], Awaitable[object]] = asyncio.sleep

    def __call__(self, seconds: float) -> Awaitable[object]:
        return self.does(seconds)


@pytest.fixture
def away(tmp_path: Path) -> Away:
    """A store that is away, to which all goes that tasks leave behind."""
    return Away(tmp_path / "away")


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    """A store that is slow, to which checkpoints go."""
    return Slow(tmp_path / "slow")


@pytest.fixture
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Results:
    """Where all goes: the stores that a test asks for, else a folder."""
    if "away" in request.fixturenames:
        away = request.getfixturevalue("away")
        return Results(pictures=away, checkpoints=away, previews=away)
    results = in_folder(tmp_path)
    if "slow" in request.fixturenames:
        return replace(results, checkpoints=request.getfixturevalue("slow"))
    return results


@pytest.fixture
def sleep() -> Sleep:
    return Sleep()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def stage(tmp_path: Path, results: Results, sleep: Sleep, listener: Listener):
    """Two tasks on hand, the queue, and the clock of everything."""
    database, clock = new_database(tmp_path / "tasks.db"), Clock(1000.0)
    queue, outlook = new_queue(TaskStore(database), clock=clock), new_outlook(clock)
    patient = PatientQueue(queue, "group", clock)
    running = RunningTasks(patient, Leavings(results, sleep), outlook, clock, listener)
    submit(queue, [params(num_inference_steps=100, num_previews=1)] * 2)
    tasks = [uvloop.run(patient.claim(math.inf))[0] for _ in range(2)]
    for task in tasks:
        running.add(task)
    yield running, tasks, queue, clock
    database.dispose()


def test_a_preview_that_could_not_be_told_of_is_told_of_later(stage, monkeypatch):
    running, (task, _), queue, clock = stage
    beat, away = queue.beat, [StoreUnavailableError()]

    def failing_once(steps, previews=()):
        if away:
            raise away.pop()
        return beat(steps, previews)

    monkeypatch.setattr(queue, "beat", failing_once)
    who = {"task_id": task.id, "attempt": 1}
    uvloop.run(recorded(running, Preview(**who, image_index=0, data=b"png")))
    uvloop.run(running.beat())
    clock.now += 1.0
    uvloop.run(running.record(StepDone(**who, steps_done=1)))
    uvloop.run(running.beat())
    told = [entry.what for entry in queue.history.after(0, 100, task.id)]
    assert told.count("preview") == told.count("step") == 1


def test_a_task_that_waits_on_hand_keeps_its_lease_while_another_steps(stage):
    running, (busy, waiting), queue, clock = stage
    for step in range(1, 100):
        clock.now += 1.0
        who = {"task_id": busy.id, "attempt": busy.attempt}
        uvloop.run(running.record(StepDone(**who, steps_done=step, rows=2, step_s=1.0)))
        uvloop.run(running.beat())
        assert queue.reap() == 0
    assert clock.now - 1000.0 > 3 * LEASE_S
    assert queue.get(busy.id).steps_done == 99
    assert queue.get(waiting.id).steps_done == 0


def test_a_lease_that_was_lost_is_dropped_once(stage):
    running, (first, second), queue, clock = stage
    queue.take_back("group")
    [again] = queue.claim("another group", 1)
    uvloop.run(running.beat())
    assert len(running) == 0
    assert sorted(running.take_withdrawn()) == sorted([(first.id, 1), (second.id, 1)])
    clock.now += LEASE_S / 2
    uvloop.run(running.beat())
    assert queue.get(again.id).attempt == 2


def test_whoever_listens_hears_that_an_attempt_was_left_whatever_became_of_it(stage, listener):
    running, (first, second), *_ = stage
    uvloop.run(running.record(TaskBegun(task_id=first.id, attempt=1)))
    uvloop.run(running.crash_all("gone"))
    assert sorted(listener.left_attempts) == sorted([(first.id, 1), (second.id, 1)])
    assert listener.failures == []


def test_a_picture_that_cannot_be_written_is_the_disks_fault(stage, listener, monkeypatch):
    running, (task, _), queue, _ = stage

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "put", full)
    uvloop.run(recorded(running, image_of(task)))
    assert queue.get(task.id).error == "The picture could not be written: No space left on device."
    assert listener.failures == [(task.id, EndReason.DISK)]


# Stores that are away, and slow ones


def test_a_picture_waits_for_its_store_while_leases_are_renewed_and_others_go_on(
    stage, away, sleep
):
    running, (task, other), queue, clock = stage
    pauses: list[float] = []

    async def wait(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds
        await running.record(StepDone(task_id=other.id, attempt=1, steps_done=len(pauses)))
        await running.beat()
        assert queue.reap() == 0
        if sum(pauses) >= 3 * LEASE_S:
            away.away = None

    sleep.does = wait
    uvloop.run(recorded(running, image_of(task), end_of(task)))
    assert sum(pauses) >= 3 * LEASE_S
    assert pauses[:3] == [0.5, 1.0, 2.0]
    assert max(pauses) == 8.0
    kept = queue.get(task.id)
    assert (kept.state, kept.attempt) == (TaskState.COMPLETED, 1)
    assert away.get(kept.pictures[0]) == b"PNG"
    assert queue.get(other.id).steps_done == len(pauses)


def test_the_ranks_have_nothing_to_do_for_a_task_whose_picture_waits(stage, away, sleep):
    running, (task, _), *_ = stage
    painting = []

    async def wait(_seconds: float) -> None:
        painting.append((running.painting, len(running)))
        away.away = None

    sleep.does = wait
    uvloop.run(recorded(running, image_of(task), end_of(task)))
    assert painting == [(1, 2)]
    assert (running.painting, len(running)) == (1, 1)


def test_a_task_that_is_cancelled_waits_for_its_store_no_longer(stage, away, sleep):
    running, (task, _), queue, _ = stage
    pauses = []

    async def wait(seconds: float) -> None:
        pauses.append(seconds)
        queue.cancel(task.id)
        running.cancelled(task.id)
        away.away = None

    sleep.does = wait
    uvloop.run(recorded(running, image_of(task), end_of(task)))
    assert len(pauses) == 1
    assert away.names() == []
    assert running.take_withdrawn() == [(task.id, 1)]


def test_a_failed_task_does_not_wait_for_a_picture_of_its_own(stage, away, sleep):
    running, (task, _), queue, _ = stage

    async def wait(_seconds: float) -> None:
        await running.record(TaskFailed(task_id=task.id, attempt=1, reason="out of memory"))

    sleep.does = wait
    uvloop.run(recorded(running, image_of(task)))
    assert queue.get(task.id).error == "out of memory"


@pytest.mark.parametrize("error", [ResultsUnavailableError(), OSError(30, "Read-only file system")])
def test_neither_checkpoints_nor_previews_that_cannot_be_kept_cost_a_task(stage, away, error):
    running, (task, _), queue, _ = stage
    away.away = error
    who = {"task_id": task.id, "attempt": 1}
    events = [Checkpoint(**who, data=b"c"), Preview(**who, image_index=0, data=b"p")]
    uvloop.run(recorded(running, *events))
    away.away = None
    uvloop.run(recorded(running, image_of(task), end_of(task)))
    assert queue.get(task.id).state is TaskState.COMPLETED


@pytest.mark.parametrize("error", [ResultsUnavailableError(), OSError(116, "Stale file handle")])
def test_a_task_whose_checkpoint_cannot_be_read_begins_anew(stage, away, error):
    running, (task, _), *_ = stage
    away.away = error
    assert read(running, replace(task, attempt=2)) is None
    away.away = None
    away.put(checkpoint_key(task.id, 1), b"checkpoint")
    assert read(running, replace(task, attempt=2)) == b"checkpoint"
    assert read(running, replace(task, attempt=3, crashes=2)) is None
    # What is there is not of this task: it has never run.
    assert read(running, task) is None


def test_a_task_goes_on_from_the_newest_checkpoint_of_earlier_attempts(stage, away):
    running, (task, other), *_ = stage
    away.away = None
    for attempt in (1, 2, 9, 10, 11):
        away.put(checkpoint_key(task.id, attempt), b"%d" % attempt)
    away.put(checkpoint_key(other.id, 3), b"another's")
    for attempt, found in ((2, b"1"), (3, b"2"), (9, b"2"), (11, b"10"), (30, b"11")):
        assert read(running, replace(task, attempt=attempt)) == found


def test_a_group_that_lost_its_lease_harms_nothing_of_the_next_attempt(stage, results, slow):
    running, (task, _), queue, clock = stage
    who = {"task_id": task.id, "attempt": 1}
    previews = results.previews
    uvloop.run(recorded(running, Preview(**who, image_index=0, data=b"old")))

    async def main() -> None:
        await running.record(Checkpoint(**who, data=b"late"))
        await asyncio.to_thread(slow.began.wait, 30)
        # Meanwhile another group goes on.
        queue.take_back("group")
        queue.claim("another group", 2)
        previews.put(preview_key(task.id, 2, 0), b"new")
        slow.may_go_on.set()
        await asyncio.to_thread(slow.put, checkpoint_key(task.id, 2), b"newer")
        clock.now += LEASE_S
        await running.beat()
        await running.settle()

    uvloop.run(main())
    assert previews.names() == [preview_key(task.id, 2, 0)]
    assert read(running, replace(task, attempt=3)) == b"newer"


@pytest.mark.parametrize("error", [ResultsUnavailableError(), OSError(5, "Input/output error")])
def test_what_cannot_be_dropped_costs_nothing(stage, away, error):
    running, (task, _), queue, _ = stage
    away.away = None
    uvloop.run(recorded(running, Checkpoint(task_id=task.id, attempt=1, data=b"c")))
    away.away = error
    uvloop.run(recorded(running, TaskFailed(task_id=task.id, attempt=1, reason="too odd")))
    uvloop.run(running.beat())
    assert queue.get(task.id).error == "too odd"
    assert len(away.names()) == 1


def test_of_checkpoints_that_come_faster_than_they_are_written_the_latest_is(stage, slow):
    running, (task, _), *_ = stage

    async def main() -> None:
        for data in (b"1", b"2", b"3"):
            await running.record(Checkpoint(task_id=task.id, attempt=1, data=data))
            await asyncio.to_thread(slow.began.wait, 30)
        slow.may_go_on.set()
        await running.settle()

    uvloop.run(main())
    assert slow.written == [b"1", b"3"]


def test_a_checkpoint_that_is_being_written_when_its_task_ends_does_not_stay(stage, slow):
    running, (task, _), queue, _ = stage

    async def main() -> None:
        await running.record(Checkpoint(task_id=task.id, attempt=1, data=b"late"))
        await asyncio.to_thread(slow.began.wait, 30)
        queue.cancel(task.id)
        running.cancelled(task.id)
        slow.may_go_on.set()
        await running.settle()

    uvloop.run(main())
    assert slow.written == [b"late"]
    assert slow.names() == []


def test_leases_are_renewed_while_a_store_does_not_answer_to_many(stage, slow):
    running, (task, other), queue, clock = stage

    async def main() -> None:
        # As many threads as there are on a small machine, or fewer.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        for claim in (task, other):
            await running.record(Checkpoint(task_id=claim.id, attempt=1, data=b"hangs"))
        await running.record(StepDone(task_id=task.id, attempt=1, steps_done=7))
        while not slow.began.is_set():
            await asyncio.sleep(0)
        clock.now += LEASE_S - 1
        try:
            async with asyncio.timeout(20):
                await running.beat()
        finally:
            slow.may_go_on.set()
        await running.settle()

    uvloop.run(main())
    assert queue.get(task.id).steps_done == 7


def test_a_mistake_in_a_write_is_not_passed_over(stage, monkeypatch):
    running, (task, _), *_ = stage

    def mistaken(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Folder, "put", mistaken)
    with pytest.raises(RuntimeError, match="a mistake"):
        uvloop.run(recorded(running, image_of(task)))
    with pytest.raises(RuntimeError, match="a mistake"):
        uvloop.run(running.beat())
