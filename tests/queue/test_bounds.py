"""How much is accepted, and when there will be room for what is not."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hidream_server.errors import (
    ClientQueueFullError,
    OverloadError,
    QueueFullError,
    RateLimitedError,
)
from hidream_server.queue.bounds import Bounds
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.tasks import TaskStore
from hidream_server.task import TaskState
from tests.support import Clock, new_database, new_outlook, new_queue, params, submit


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def make(tmp_path: Path, clock: Clock):
    """Return a function that makes a queue on which a guided step of 512x512 takes a second."""
    database = new_database(tmp_path / "tasks.db")

    def make(**bounds: int) -> TaskQueue:
        outlook = new_outlook(clock)
        outlook.know({64: {1: 0.5, 2: 1.0}}, {})
        return new_queue(TaskStore(database), outlook, clock, bounds=Bounds(**bounds))

    yield make
    database.dispose()


def refusal(queue: TaskQueue, count: int = 1, client: str = "", **changes: object) -> OverloadError:
    """Return the error with which so many tasks are refused, by either way of asking."""
    drafts = queue.draft([params(**changes)] * count, client)
    with pytest.raises(OverloadError) as early:
        queue.require_room(drafts)
    with pytest.raises(OverloadError) as late:
        queue.submit(drafts)
    assert type(early.value) is type(late.value)
    assert early.value.retry_after_s == late.value.retry_after_s
    return late.value


def test_without_bounds_everything_is_accepted(make):
    queue = make()
    submit(queue, [params()] * 200)
    queue.require_room(queue.draft([params()]))


def test_a_full_queue_says_when_the_next_task_will_be_done(make, clock):
    queue = make(queued=3)
    submit(queue, [params()])
    queue.claim("g", 1)
    submit(queue, [params(num_inference_steps=8)] * 3)
    error = refusal(queue)
    assert isinstance(error, QueueFullError)
    assert "3 tasks" in str(error)
    assert error.retry_after_s == pytest.approx(4.0)
    clock.now += 1.5
    assert refusal(queue).retry_after_s == pytest.approx(4.0), "nothing has moved meanwhile"
    assert refusal(queue, 2).retry_after_s == pytest.approx(12.0)
    assert queue.counts()[TaskState.QUEUED] == 3


def test_there_is_room_again_once_a_task_is_begun(make):
    queue = make(queued=2)
    submit(queue, [params()] * 2)
    refusal(queue)
    queue.claim("g", 1)
    submit(queue, [params()])


def test_a_batch_is_accepted_whole_or_not_at_all(make):
    queue = make(queued=3)
    submit(queue, [params()])
    refusal(queue, 3)
    assert queue.counts()[TaskState.QUEUED] == 1
    submit(queue, [params()] * 2)


def test_each_client_has_places_of_its_own(make):
    queue = make(client_queued=2)
    submit(queue, [params()] * 2, "greedy")
    submit(queue, [params()] * 2, "modest")
    error = refusal(queue, client="greedy")
    assert isinstance(error, ClientQueueFullError)
    assert error.retry_after_s > 0


def test_a_client_has_so_many_images_a_minute(make, clock):
    queue = make(client_images=5)
    submit(queue, [params(num_images=3)], "a")
    clock.now += 20
    submit(queue, [params(num_images=2)], "a")
    submit(queue, [params(num_images=5)], "b")
    error = refusal(queue, client="a", num_images=1)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == pytest.approx(40.0)
    assert refusal(queue, client="a", num_images=4).retry_after_s == pytest.approx(60.0)
    clock.now += 40.0
    submit(queue, [params(num_images=3)], "a")
    refusal(queue, client="a", num_images=1)


def test_what_is_refused_does_not_count(make, clock):
    queue = make(client_images=2)
    submit(queue, [params(num_images=2)])
    for _ in range(3):
        clock.now += 10
        refusal(queue)
    clock.now += 30
    submit(queue, [params(num_images=2)])


def test_no_more_of_a_client_run_than_may(make):
    queue = make(client_running=1)
    first, second = submit(queue, [params()] * 2, "greedy")
    [other] = submit(queue, [params(num_inference_steps=50)], "modest")
    assert [queue.claim("g", 1)[0].id for _ in range(2)] == [first.id, other.id]
    assert queue.claim("g", 1) == []
    assert queue.complete((first.id, 1), [], {})
    assert queue.claim("g", 1)[0].id == second.id


def test_what_comes_again_is_answered_though_there_is_no_room(make):
    queue = make(queued=1)
    [draft] = queue.draft([params()])
    draft = replace(draft, digest="x")
    assert queue.submit([draft], "k") == [draft]
    assert [task.id for task in queue.submit([replace(draft, id="0" * 8)], "k")] == [draft.id]
    assert queue.earlier([draft], "k") == [draft]


def test_the_bound_holds_for_many_at_once(make):
    queue = make(queued=10)
    refused = []

    def ask() -> None:
        for _ in range(4):
            try:
                submit(queue, [params()])
            except QueueFullError as error:
                refused.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.counts()[TaskState.QUEUED] == 10
    assert len(refused) == 22


def test_a_client_that_stands_far_behind_others_is_told_its_own_wait(make):
    queue = make(client_queued=1)
    queue.bounds = Bounds()
    submit(queue, [params()] * 100, "others")
    queue.bounds = Bounds(client_queued=1)
    submit(queue, [params(num_inference_steps=8)], "late")
    error = refusal(queue, client="late")
    assert error.retry_after_s == pytest.approx(408.0)
