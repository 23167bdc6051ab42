"""The rules by which tasks move, on a real table with a clock that is set by hand."""

import threading
import uuid
from pathlib import Path

import pytest

from hidream_server.observer import Observer
from hidream_server.queue.outlook import Outlook
from hidream_server.queue.task_queue import LEASE_S, TaskQueue, draw_seed
from hidream_server.scheduling.policy import AGEING
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Priority, Task, TaskParams, TaskState
from tests.support import Clock, new_database, new_outlook, new_queue, params, submit

MAX_CRASHES = 3


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def store(tmp_path: Path):
    engine = new_database(tmp_path / "tasks.db")
    yield TaskStore(engine)
    engine.dispose()


@pytest.fixture
def outlook(clock: Clock) -> Outlook:
    outlook = new_outlook(clock)
    outlook.know({64: {1: 0.5, 2: 1.0}}, {})
    return outlook


@pytest.fixture
def queue(store: TaskStore, outlook: Outlook, clock: Clock) -> TaskQueue:
    return new_queue(store, outlook, clock, MAX_CRASHES)


def claim(queue: TaskQueue) -> Task:
    [task] = queue.claim("group", 1)
    return task


def complete_after(queue: TaskQueue, clock: Clock, seconds: float) -> None:
    task = claim(queue)
    clock.now += seconds
    assert queue.complete((task.id, task.attempt), ["a.png"], {})


def test_submitted_tasks_are_queued_in_order_with_ids_of_their_own(queue, clock):
    asked = [params(seed=seed) for seed in (3, 1, 2)]
    tasks = submit(queue, asked)
    assert [task.params for task in tasks] == asked
    assert len({uuid.UUID(task.id) for task in tasks}) == 3
    for task in tasks:
        assert (task.state, task.created_at) == (TaskState.QUEUED, clock.now)
        assert queue.get(task.id) == task
    assert [task.id for task in queue.claim("g", 3)] == [task.id for task in tasks]


def test_an_unknown_task_is_none(queue):
    assert queue.get("unknown") is None


def test_listeners_hear_of_a_submission_once_and_after_it_is_kept(queue, store):
    heard = []
    queue.on_submit(lambda: heard.append(("a", store.counts()[TaskState.QUEUED])))
    queue.on_submit(lambda: heard.append(("b", store.counts()[TaskState.QUEUED])))
    submit(queue, [params(), params()])
    assert heard == [("a", 2), ("b", 2)]


def test_listeners_hear_nothing_of_a_submission_that_failed(queue, store, monkeypatch):
    def fail(*_arguments: object) -> None:
        raise OSError("disk full")

    heard = []
    queue.on_submit(lambda: heard.append(1))
    monkeypatch.setattr(store, "insert", fail)
    with pytest.raises(OSError, match="disk full"):
        submit(queue, [params()])
    assert heard == []


def test_submissions_from_many_threads_are_all_kept(queue):
    threads = [threading.Thread(target=submit, args=(queue, [params()] * 2)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.counts()[TaskState.QUEUED] == 16


def test_a_drawn_seed_is_short_enough_to_type_and_differs():
    seeds = [draw_seed() for _ in range(100)]
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert len(set(seeds)) > 90


# Order


def test_a_short_task_is_due_before_a_long_one_that_came_a_little_earlier(queue, clock):
    long, other = submit(queue, [params(num_inference_steps=100), params(num_inference_steps=90)])
    clock.now += 1.0
    [short] = submit(queue, [params(num_inference_steps=1)])
    assert [task.id for task in queue.claim("g", 3)] == [short.id, other.id, long.id]


def test_a_long_task_is_passed_only_as_long_as_it_would_take(queue, clock):
    [long] = submit(queue, [params(num_inference_steps=100)])
    clock.now += 100.0 / AGEING
    [late] = submit(queue, [params(num_inference_steps=1)])
    assert [task.id for task in queue.claim("g", 2)] == [long.id, late.id]


def test_a_priority_is_a_head_start(queue, clock):
    low, normal, high = (submit(queue, [params(priority=p)])[0] for p in Priority)
    clock.now += 601
    [late_high] = submit(queue, [params(priority=Priority.HIGH)])
    clock.now += 3600
    [last] = submit(queue, [params()])
    order = [task.id for task in queue.claim("g", 5)]
    assert order == [task.id for task in (high, normal, late_high, low, last)]


def test_a_task_with_a_deadline_is_due_before_all_others(queue, clock):
    submit(queue, [params(num_inference_steps=1)])
    clock.now += 1e6
    late, soon = submit(queue, [params(deadline_s=600.0), params(deadline_s=60.0)])
    assert [task.id for task in queue.claim("g", 2)] == [soon.id, late.id]


def test_a_deadline_can_be_promised_behind_a_backlog(queue, clock):
    submit(queue, [params()] * 60)
    clock.now += 100
    [urgent] = queue.draft([params(deadline_s=10.0)])
    assert queue.prospects.estimate([urgent])[0] <= 10.0


@pytest.mark.parametrize("beside_s", [0.0, 0.7])
def test_the_deadline_that_is_named_can_be_promised(queue, outlook, beside_s):
    outlook.know({}, {64: beside_s})
    submit(queue, [params()] * 6)
    [draft] = queue.draft([params(deadline_s=1.0)])
    least = queue.prospects.least_deadline(draft)
    assert 4.0 + beside_s <= least <= 10.0
    [again] = queue.draft([params(deadline_s=least)])
    assert queue.prospects.estimate([again])[0] <= least


def test_time_beside_the_steps_is_part_of_a_deadline(queue, outlook, clock):
    outlook.know({}, {64: 0.7})
    [task] = queue.draft([params(deadline_s=10.0)])
    assert outlook.steps_by(task) == pytest.approx(clock.now + 9.3)
    assert outlook.steps_by(queue.draft([params()])[0]) is None


def test_what_a_size_takes_beside_its_steps_is_scaled_from_the_nearest(queue, outlook):
    outlook.know({}, {64: 0.5})
    [large] = queue.draft([params(width=1024, height=1024)])
    assert queue.prospects.estimate([large])[0] == pytest.approx(4 * 4.0 + 4 * 0.5)


def test_another_client_does_not_wait_for_a_greedy_one(queue):
    submit(queue, [params()] * 60, client="greedy")
    [other] = queue.draft([params()], client="modest")
    assert queue.prospects.estimate([other])[0] < 60


# Cancelling


def test_a_cancelled_task_is_told_once_to_all_who_listen(queue, clock):
    heard: list[str] = []
    queue.on_end(heard.append)
    waiting, running = submit(queue, [params(), params()])
    claim(queue)
    for task in (waiting, running):
        assert queue.cancel(task.id)
        assert not queue.cancel(task.id)
    assert heard == [waiting.id, running.id]
    assert queue.counts()[TaskState.CANCELLED] == 2
    assert not queue.cancel("nobody")


def test_a_cancelled_request_is_told_as_its_tasks_are(queue, monkeypatch):
    class Ends(Observer):
        def cancelled(self, task_id: str) -> None:
            observed.append(task_id)

    observed: list[str] = []
    heard: list[str] = []
    monkeypatch.setattr(queue, "_observer", Ends())
    queue.on_end(heard.append)
    tasks = queue.submit(queue.draft([params()] * 2, "anna"), "mine")
    submit(queue, [params()], "anna")
    assert queue.cancel_request("anna", "mine", lambda _: None) == 2
    assert sorted(heard) == sorted(observed) == sorted(task.id for task in tasks)
    assert queue.counts()[TaskState.QUEUED] == 1


# Estimates: a guided image of 512x512 takes a second for each of its four steps


def estimate(queue: TaskQueue, *asked: TaskParams) -> list[float]:
    return queue.prospects.estimate(queue.draft(asked))


def test_a_task_that_finds_nothing_before_it_takes_its_own_time(queue):
    assert estimate(queue, params()) == [pytest.approx(4.0)]
    assert estimate(queue, params(guidance_scale=0.0, num_images=3)) == [pytest.approx(6.0)]


def test_an_estimate_counts_what_waits_what_runs_and_what_comes_before(queue, clock):
    submit(queue, [params(), params()])
    claim(queue)
    assert estimate(queue, params(), params(num_images=2)) == [
        pytest.approx(12.0),
        pytest.approx(20.0),
    ]


def test_a_short_task_does_not_wait_for_a_long_one(queue):
    submit(queue, [params(num_inference_steps=100)])
    assert estimate(queue, params(num_inference_steps=1)) == [pytest.approx(1.0)]


def test_steps_that_are_done_are_not_counted_again(queue, outlook, clock):
    submit(queue, [params(num_inference_steps=10)])
    running = claim(queue)
    outlook.stepped(running, steps_done=6, rows=2, seconds=1.0)
    assert queue.prospects.seconds_left(running) == pytest.approx(4.0)
    clock.now += 0.5
    assert queue.prospects.seconds_left(running) == pytest.approx(3.5)
    outlook.stepped(running, steps_done=9, rows=2, seconds=1.0)
    clock.now += 0.6
    assert queue.prospects.seconds_left(running) == pytest.approx(1.0)


def test_the_estimate_follows_measured_steps(queue, outlook):
    [task] = queue.draft([params()])
    for _ in range(200):
        outlook.stepped(task, steps_done=1, rows=2, seconds=0.25)
    outlook.forget(task.id)
    assert queue.prospects.estimate([task]) == [pytest.approx(1.0, rel=0.01)]


def test_steps_without_a_forward_move_a_task_and_say_nothing_of_forwards(queue, outlook):
    submit(queue, [params(num_inference_steps=10)])
    running = claim(queue)
    outlook.stepped(running, steps_done=1, rows=2, seconds=1.0)
    for done in range(2, 7):
        outlook.stepped(running, steps_done=done, rows=0, seconds=0.001)
    assert queue.prospects.seconds_left(running) == pytest.approx(4.0)


def test_what_a_task_takes_beside_its_steps_is_learned(queue, outlook):
    [task] = queue.draft([params()])
    outlook.completed(task, beside_s=0.5)
    assert queue.prospects.estimate([task]) == [pytest.approx(4.5)]


def test_groups_share_what_waits_but_not_a_task(store, clock):
    outlook = new_outlook(clock, lanes=2)
    outlook.know({64: {1: 0.5, 2: 1.0}}, {})
    queue = new_queue(store, outlook, clock, MAX_CRASHES)
    submit(queue, [params()] * 4)
    assert estimate(queue, params()) == [pytest.approx(12.0)]


def test_a_long_queue_is_estimated_by_its_cost_beyond_the_horizon(queue):
    submit(queue, [params()] * 100)
    assert estimate(queue, params()) == [pytest.approx(404.0)]


def test_a_position_is_how_many_queued_tasks_are_before(queue):
    first, second, short = submit(queue, [params(), params(), params(num_inference_steps=1)])
    assert [queue.prospects.position(task) for task in (first, second, short)] == [1, 2, 0]
    assert queue.prospects.position(claim(queue)) is None
    assert queue.prospects.seconds_left(short) == pytest.approx(1.0)


def test_a_task_that_has_ended_has_no_time_left(queue):
    submit(queue, [params()])
    running = claim(queue)
    assert queue.complete((running.id, running.attempt), [], {})
    assert queue.prospects.seconds_left(queue.get(running.id)) is None


# Claims


def test_a_claim_holds_until_the_lease_runs_out(queue, store, clock):
    submit(queue, [params()])
    task = claim(queue)
    assert task.started_at == clock.now
    assert store.reap(clock.now + LEASE_S) == 0
    assert store.reap(clock.now + LEASE_S + 0.1) == 1


def test_a_beat_keeps_the_claim_and_records_progress(queue, store, clock):
    submit(queue, [params()])
    task = claim(queue)
    clock.now += LEASE_S - 1
    assert queue.beat({(task.id, task.attempt): 2}) == set()
    assert store.reap(clock.now + LEASE_S) == 0
    assert queue.get(task.id).progress == 50


def test_a_beat_tells_that_the_claim_is_gone(queue, clock):
    submit(queue, [params()])
    task = claim(queue)
    queue.take_back("group")
    assert queue.beat({(task.id, task.attempt): 2}) == {(task.id, task.attempt)}


def test_completing_and_failing_take_the_time_from_the_clock(queue, clock):
    submit(queue, [params(), params()])
    first, second = queue.claim("g", 2)
    clock.now += 5
    assert queue.complete((first.id, 1), ["a.png"], {"denoise_s": 4.0})
    assert queue.fail((second.id, 1), "out of memory")
    for task in (queue.get(first.id), queue.get(second.id)):
        assert task.processing_time == 5
    assert queue.get(first.id).pictures == ("a.png",)
    assert queue.get(second.id).error == "out of memory"


# Giving back


def test_a_task_that_is_handed_back_never_counts_as_crashed(queue):
    submit(queue, [params()])
    for attempt in range(1, 3 * MAX_CRASHES):
        task = claim(queue)
        assert (task.attempt, task.crashes) == (attempt, 0)
        assert queue.hand_back((task.id, task.attempt), "tested")
    assert queue.get(task.id).state is TaskState.QUEUED


def test_a_task_that_crashes_is_queued_again_until_its_attempts_are_used_up(queue, clock):
    [submitted] = submit(queue, [params()])
    for crashes in range(1, MAX_CRASHES):
        assert queue.crashed(claim(queue), "rank 0 left") is TaskState.QUEUED
        found = queue.get(submitted.id)
        assert (found.state, found.crashes, found.error) == (TaskState.QUEUED, crashes, "")
    clock.now += 7
    assert queue.crashed(claim(queue), "rank 1 left") is TaskState.FAILED
    failed = queue.get(submitted.id)
    assert failed.state is TaskState.FAILED
    assert failed.completed_at == clock.now
    assert f"{MAX_CRASHES} times" in failed.error
    assert "rank 1 left" in failed.error
    assert "rank 0" not in failed.error
    assert queue.claim("g", 1) == []


def test_with_one_attempt_the_first_crash_is_the_last(store, clock):
    queue = new_queue(store, clock=clock, max_crashes=1)
    [task] = submit(queue, [params()])
    assert queue.crashed(claim(queue), "rank 0 left") is TaskState.FAILED
    assert queue.get(task.id).state is TaskState.FAILED


def test_handing_back_does_not_forget_earlier_crashes(queue):
    submit(queue, [params()])
    queue.crashed(claim(queue), "rank 0 left")
    task = claim(queue)
    queue.hand_back((task.id, task.attempt), "tested")
    assert claim(queue).crashes == 1


@pytest.mark.parametrize("crashes", [0, MAX_CRASHES - 1])
def test_an_attempt_that_has_been_fenced_off_cannot_crash_the_task(queue, crashes):
    submit(queue, [params()])
    for _ in range(crashes):
        queue.crashed(claim(queue), "rank 0 left")
    stale = claim(queue)
    queue.take_back("group")
    newer = claim(queue)
    assert queue.crashed(stale, "late news") is None
    assert queue.get(newer.id) == newer


def test_recovering_queues_everything_that_runs_and_counts_no_crash(queue):
    tasks = submit(queue, [params()] * 3)
    first, _second = queue.claim("group", 2)
    queue.complete((first.id, 1), [], {})
    assert queue.take_back("group") == 1
    assert queue.take_back("group") == 0
    assert queue.counts()[TaskState.QUEUED] == 2
    again = queue.claim("group", 2)
    assert [task.id for task in again] == [task.id for task in tasks[1:]]
    assert [(task.attempt, task.crashes) for task in again] == [(2, 0), (1, 0)]
