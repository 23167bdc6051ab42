"""Looking ahead: how often, and who waits for it."""

import threading
from pathlib import Path

import pytest

from hidream_server.queue.prospects import Prospects
from hidream_server.store.tasks import TaskStore
from hidream_server.task import InferType
from tests.support import Clock, new_database, new_outlook, new_queue, params, submit


class Counting:
    """A store that counts how often the line is looked at, and can be held while it is."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self.looks = 0
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def line(self):
        self.looks += 1
        self.entered.set()
        assert self.go_on.wait(30)
        return self._store.line()

    def waiting(self, count: int):
        return self._store.waiting(count)


@pytest.fixture
def stage(tmp_path: Path):
    """Prospects, the store they look at, their clock, and a queue to submit to."""
    database = new_database(tmp_path / "tasks.db")
    store, clock = TaskStore(database), Clock(1000.0)
    counting, outlook = Counting(store), new_outlook(clock)
    outlook.know({64: {1: 0.5, 2: 1.0}}, {})
    yield Prospects(counting, outlook, clock), counting, clock, new_queue(store)
    database.dispose()


def test_many_questions_are_answered_from_one_look_for_a_second(stage):
    prospects, store, clock, queue = stage
    tasks = submit(queue, [params()] * 3)
    for _ in range(5):
        assert [prospects.position(task) for task in tasks] == [0, 1, 2]
        assert all(prospects.seconds_left(task) > 0 for task in tasks)
    assert store.looks == 1
    clock.now += 1.1
    prospects.seconds_left(tasks[0])
    assert store.looks == 2


def test_a_task_that_was_not_seen_is_looked_for_at_once(stage):
    prospects, store, _, queue = stage
    prospects.position(submit(queue, [params()])[0])
    assert prospects.position(submit(queue, [params()])[0]) == 1
    assert store.looks == 2


def test_nobody_waits_for_another_that_is_looking(stage):
    prospects, store, clock, queue = stage
    [task] = submit(queue, [params()])
    before = prospects.seconds_left(task)
    clock.now += 2.0
    store.entered.clear()
    store.go_on.clear()
    looking = threading.Thread(target=prospects.seconds_left, args=(task,))
    looking.start()
    try:
        assert store.entered.wait(30)
        assert prospects.seconds_left(task) == pytest.approx(before - 2.0)
    finally:
        store.go_on.set()
        looking.join()
    assert store.looks == 2


def test_fp8_is_quicker_as_it_was_measured_and_only_where_it_is_used(tmp_path: Path):
    database = new_database(tmp_path / "tasks.db")
    exact, lossy = params(), params(infer_type=InferType.PERFORMANCE)
    _, task = submit(new_queue(TaskStore(database)), [exact, lossy])
    for fp8, part in ((True, 0.5), (False, 1.0)):
        outlook = new_outlook(fp8=fp8)
        outlook.know({64: {1: 0.5, 2: 1.0}}, {})
        before = outlook.alone_s(exact)
        if fp8:
            outlook.stepped(task, 1, rows=2, seconds=0.5)
        assert outlook.alone_s(exact) == before
        assert outlook.alone_s(lossy) == pytest.approx(part * before)
        # A server without groups hears of it from those of others.
        other = new_outlook()
        other.believe(*outlook.known(), outlook.fp8_ratio)
        assert other.alone_s(lossy) == pytest.approx(part * before)
    database.dispose()
