"""Leases of what a group has on hand; the rest is tried with the supervisor."""

import math
from pathlib import Path

import pytest
import uvloop

from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.errors import StoreUnavailableError
from hidream_server.ipc.messages import ImageDone, Preview, StepDone, TaskBegun
from hidream_server.observer import EndReason, Observer
from hidream_server.queue.task_queue import LEASE_S
from hidream_server.store.keyed_files import KeyedFiles
from hidream_server.store.pictures import PictureFolder
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task
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


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def stage(tmp_path: Path, listener: Listener):
    """Two tasks on hand, the queue, and the clock of everything."""
    database, clock = new_database(tmp_path / "tasks.db"), Clock(1000.0)
    queue, outlook = new_queue(TaskStore(database), clock=clock), new_outlook(clock)
    patient = PatientQueue(queue, "group", clock)
    pictures = PictureFolder(tmp_path / "pictures")
    folders = [KeyedFiles(tmp_path / name) for name in ("checkpoints", "previews")]
    running = RunningTasks(patient, pictures, *folders, outlook, clock, listener)
    submit(queue, [params(num_inference_steps=100)] * 2)
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
    uvloop.run(running.record(Preview(**who, image_index=0, data=b"png")))
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
    assert sorted(running.take_dropped()) == sorted([(first.id, 1), (second.id, 1)])
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

    monkeypatch.setattr(PictureFolder, "put", full)
    image = ImageDone(task_id=task.id, attempt=1, image_index=0, data=b"PNG")
    uvloop.run(running.record(image))
    assert queue.get(task.id).error == "The picture could not be written: No space left on device."
    assert listener.failures == [(task.id, EndReason.DISK)]
