"""What every task store must do, whichever database it is on."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import integers

from hidream_server.errors import OverloadError, RequestReusedError
from hidream_server.store.backlog import Backlog
from hidream_server.store.database import Database
from hidream_server.store.reading import InLine
from hidream_server.store.tasks import TaskStore
from hidream_server.task import TRANSITIONS, Task, TaskParams, TaskState
from tests.support import params

#: Opens the same database again, as another process or the next run of the server would.
Open = Callable[[], TaskStore]

LEASE_S = 30.0


@pytest.fixture
def open_fresh(
    new_databases: Callable[[], Callable[[], Database]],
) -> Iterator[Callable[[], Open]]:
    opened: list[Database] = []

    def fresh() -> Open:
        open_database = new_databases()

        def open_store() -> TaskStore:
            opened.append(open_database())
            return TaskStore(opened[-1])

        return open_store

    yield fresh
    for database in opened:
        database.dispose()


@pytest.fixture
def open_store(open_fresh: Callable[[], Open]) -> Open:
    return open_fresh()


@pytest.fixture
def store(open_store: Open) -> TaskStore:
    return open_store()


def new_task(created_at: float = 1.0, task_params: TaskParams | None = None) -> Task:
    return Task(
        id=str(uuid.uuid4()),
        state=TaskState.QUEUED,
        params=task_params or params(),
        created_at=created_at,
    )


def queued(store: TaskStore, count: int = 1, **changes: object) -> list[Task]:
    new = [new_task(task_params=params(**changes)) for _ in range(count)]
    store.insert(new)
    return new


def running(store: TaskStore, now: float = 100.0, **changes: object) -> Task:
    """Return a task that has been submitted and claimed."""
    queued(store, **changes)
    [task] = store.claim("group", 1, now, LEASE_S)
    return task


def claim_of(task: Task) -> tuple[str, int]:
    return task.id, task.attempt


def completed(store: TaskStore, seconds: float, end: float, **changes: object) -> Task:
    task = running(store, end - seconds, **changes)
    assert store.complete(claim_of(task), end, ["p.png"], {})
    return task


#: Every write about a running task, as (name, call with store and claim).
FENCED = {
    "beat": lambda store, claim: store.beat({claim: 3}, 1e9, LEASE_S) == set(),
    "complete": lambda store, claim: store.complete(claim, 200.0, ["stale.png"], {"x_s": 1.0}),
    "fail": lambda store, claim: store.fail(claim, 200.0, "stale"),
    "release": lambda store, claim: store.release(claim, 1e3, crashed=False, reason="tested"),
    "release as crashed": lambda store, claim: store.release(
        claim, 1e3, crashed=True, reason="tested"
    ),
}
each_fenced = pytest.mark.parametrize("write", FENCED.values(), ids=FENCED)


def put_into(store: TaskStore, state: TaskState) -> Task:
    """Return a task that has come to this state by itself."""
    if state is TaskState.QUEUED:
        return queued(store)[0]
    task = running(store)
    if state is TaskState.COMPLETED:
        assert store.complete(claim_of(task), 150.0, ["a.png"], {"denoise_s": 2.0})
    elif state is TaskState.FAILED:
        assert store.fail(claim_of(task), 150.0, "out of memory")
    elif state is TaskState.CANCELLED:
        assert store.cancel(task.id, 150.0)
    found = store.get(task.id)
    assert found is not None
    assert found.state is state
    return found


STATES = list(TaskState)


# Insert and read


def test_an_inserted_task_is_read_back_as_it_was(store: TaskStore):
    task = new_task(12.5, params(prompt="红色的圆 🎨 'quoted'\n", seed=2**53 - 1, num_images=3))
    store.insert([task])
    assert store.get(task.id) == task


def test_an_unknown_id_is_none(store: TaskStore):
    queued(store)
    for task_id in (str(uuid.uuid4()), "", "%", "x\x00y", "'; DROP TABLE tasks; --"):
        assert store.get(task_id) is None


def test_all_tasks_are_inserted_or_none(store: TaskStore):
    [there] = queued(store)
    fresh = [new_task() for _ in range(3)]
    with pytest.raises(RequestReusedError):
        store.insert([*fresh, there])
    assert store.counts()[TaskState.QUEUED] == 1
    assert all(store.get(task.id) is None for task in fresh)


def test_inserting_nothing_adds_nothing(store: TaskStore):
    store.insert([])
    assert sum(store.counts().values()) == 0


def test_counts_name_every_state(store: TaskStore):
    assert store.counts() == dict.fromkeys(TaskState, 0)
    for number, state in enumerate(reversed(STATES), 1):
        for _ in range(number):
            put_into(store, state)
    assert store.counts() == {state: n for n, state in enumerate(reversed(STATES), 1)}


# Claim


def test_the_oldest_tasks_are_claimed_first_in_the_order_of_submission(store: TaskStore):
    tasks = [new_task(created_at) for created_at in (9.0, 1.0, 5.0, 1.0)]
    store.insert(tasks)
    ids = [task.id for task in tasks]
    assert [task.id for task in store.claim("g", 3, 100.0, LEASE_S)] == ids[:3]
    assert [task.id for task in store.claim("g", 3, 100.0, LEASE_S)] == ids[3:]
    assert store.claim("g", 3, 100.0, LEASE_S) == []


def test_what_is_due_first_is_claimed_first(store: TaskStore):
    tasks = [replace(new_task(), due=due) for due in (30.0, -5.0, 12.5, -5.0)]
    store.insert(tasks)
    due_first = [tasks[n].id for n in (1, 3, 2, 0)]
    assert [task.id for task in store.claim("g", 1, 100.0, LEASE_S)] == due_first[:1]
    claimed = store.claim("g", 3, 100.0, LEASE_S)
    assert [task.id for task in claimed] == due_first[1:]
    assert claimed[-1].due == 30.0


def test_no_more_are_claimed_than_asked_for(store: TaskStore):
    queued(store, 3)
    assert store.claim("g", 0, 100.0, LEASE_S) == []
    assert len(store.claim("g", 2, 100.0, LEASE_S)) == 2
    assert store.counts()[TaskState.QUEUED] == 1


def test_a_claim_starts_an_attempt_and_is_what_the_table_says(store: TaskStore):
    [submitted] = queued(store)
    [task] = store.claim("g", 1, 100.0, LEASE_S)
    assert task == replace(submitted, state=TaskState.PROCESSING, attempt=1, started_at=100.0)
    assert store.get(task.id) == task


def test_each_claim_is_a_new_attempt_that_starts_from_nothing(store: TaskStore):
    task = running(store)
    assert store.beat({claim_of(task): 3}, 1e9, LEASE_S) == set()
    assert store.release(claim_of(task), 1e3, crashed=False, reason="tested")
    [again] = store.claim("g", 1, 200.0, LEASE_S)
    assert (again.id, again.attempt, again.started_at, again.steps_done) == (task.id, 2, 200.0, 0)


def test_a_task_handed_back_keeps_its_place_in_the_queue(store: TaskStore):
    first, second = queued(store, 2)
    [task] = store.claim("g", 1, 100.0, LEASE_S)
    store.release(claim_of(task), 1e3, crashed=False, reason="tested")
    assert [t.id for t in store.claim("g", 2, 100.0, LEASE_S)] == [first.id, second.id]


def test_four_claimers_share_ten_thousand_tasks_and_none_is_lost_or_given_twice(
    open_store: Open,
):
    store = open_store()
    ids = {task.id for _ in range(10) for task in queued(store, 1000)}
    # Two threads to each of two stores: within a process and between processes.
    stores = [store, store, other := open_store(), other]
    taken: list[list[Task]] = [[] for _ in stores]
    start = threading.Barrier(len(stores))

    def take(number: int) -> None:
        start.wait()
        # Where rows are locked by others, nothing found does not mean that there is nothing.
        while stores[number].counts()[TaskState.QUEUED]:
            taken[number] += stores[number].claim(f"g{number}", 60 + number, 100.0, LEASE_S)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = Counter(task.id for tasks in taken for task in tasks)
    assert set(counted) == ids
    assert set(counted.values()) == {1}
    assert {task.attempt for tasks in taken for task in tasks} == {1}
    assert all(taken), "every claimer got some"


# Writes about a running task


def test_a_beat_records_progress_and_renews_the_lease(store: TaskStore):
    task = running(store, now=100.0)
    assert store.beat({claim_of(task): 3}, 150.0, lease_s=50.0) == set()
    assert store.get(task.id) == replace(task, steps_done=3)
    assert store.reap(150.0) == 0


def test_completing_publishes_the_pictures(store: TaskStore):
    task = running(store)
    assert store.beat({claim_of(task): 3}, 1e9, LEASE_S) == set()
    assert store.complete(claim_of(task), 160.0, ["b.png", "a.png"], {"denoise_s": 1.5})
    assert store.get(task.id) == replace(
        task,
        state=TaskState.COMPLETED,
        completed_at=160.0,
        steps_done=3,
        pictures=("b.png", "a.png"),
        timings={"denoise_s": 1.5},
    )


@pytest.mark.parametrize("count", [None, 0, 17])
def test_completing_keeps_how_many_steps_were_reused(store: TaskStore, count: int | None):
    task = running(store)
    assert store.complete(claim_of(task), 160.0, ["a.png"], {}, reused_steps=count)
    found = store.get(task.id)
    assert found is not None
    assert found.reused_steps == count


def test_failing_gives_the_reason(store: TaskStore):
    task = running(store)
    assert store.fail(claim_of(task), 160.0, "out of memory")
    assert store.get(task.id) == replace(
        task, state=TaskState.FAILED, completed_at=160.0, error="out of memory"
    )


@pytest.mark.parametrize("crashed", [False, True])
def test_a_released_task_is_queued_and_only_crashes_are_counted(store: TaskStore, crashed: bool):
    task = running(store)
    for count in (1, 2):
        assert store.release(claim_of(task), 1e3, crashed, "tested")
        found = store.get(task.id)
        assert found is not None
        assert (found.state, found.started_at, found.steps_done) == (TaskState.QUEUED, None, 0)
        assert found.crashes == (count if crashed else 0)
        [task] = store.claim("g", 1, 200.0, LEASE_S)
        assert task.crashes == found.crashes


@each_fenced
def test_a_write_about_one_task_leaves_its_neighbours_alone(store: TaskStore, write):
    neighbours = [running(store), *queued(store)]
    [other] = store.claim("g", 1, 100.0, LEASE_S)
    task = running(store)
    assert write(store, claim_of(task))
    assert store.get(neighbours[0].id) == neighbours[0]
    assert store.get(other.id) == other


@each_fenced
def test_a_stale_attempt_changes_nothing_while_a_newer_one_runs(store: TaskStore, write):
    stale = running(store)
    assert store.reap(1e9) == 1
    [newer] = store.claim("other group", 1, 300.0, LEASE_S)
    assert newer.id == stale.id
    assert write(store, claim_of(stale)) is False
    assert store.get(newer.id) == newer
    assert store.complete(claim_of(newer), 400.0, ["new.png"], {})


@each_fenced
def test_an_attempt_whose_lease_was_reaped_changes_nothing(store: TaskStore, write):
    stale = running(store)
    store.reap(1e9)
    before = store.get(stale.id)
    assert write(store, claim_of(stale)) is False
    assert store.get(stale.id) == before


@each_fenced
def test_an_attempt_or_a_task_that_never_was_changes_nothing(store: TaskStore, write):
    task = running(store)
    assert write(store, (task.id, task.attempt + 1)) is False
    assert write(store, (str(uuid.uuid4()), task.attempt)) is False
    assert store.get(task.id) == task


# Transitions


@pytest.mark.parametrize("state", [state for state in STATES if not TRANSITIONS[state]])
def test_no_statement_leads_out_of_a_final_state(store: TaskStore, state: TaskState):
    task = put_into(store, state)
    for write in FENCED.values():
        assert write(store, claim_of(task)) is False
    assert store.reap(1e9) == 0
    assert store.reap(float("inf")) == 0
    assert store.cancel(task.id, 1e9) is False
    assert store.claim("g", 10, 1e9, LEASE_S) == []
    assert store.get(task.id) == task


@each_fenced
def test_no_statement_about_a_running_task_moves_a_queued_one(store: TaskStore, write):
    [task] = queued(store)
    assert write(store, (task.id, 0)) is False
    assert store.get(task.id) == task


@each_fenced
@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.PROCESSING])
def test_a_cancelled_task_ends_then_and_there(store: TaskStore, state: TaskState, write):
    task, other = put_into(store, state), put_into(store, state)
    assert store.cancel(task.id, 170.0)
    found = store.get(task.id)
    assert (found.state, found.completed_at) == (TaskState.CANCELLED, 170.0)
    assert write(store, claim_of(task)) is False
    assert store.get(other.id) == other
    assert store.cancel(str(uuid.uuid4()), 170.0) is False


# Leases


def test_only_tasks_whose_lease_has_run_out_are_reaped(store: TaskStore):
    early, late = running(store, now=100.0), running(store, now=150.0)
    assert store.reap(100.0 + LEASE_S) == 0
    assert store.reap(100.1 + LEASE_S) == 1
    found = store.get(early.id)
    assert found is not None
    assert (found.state, found.started_at) == (TaskState.QUEUED, None)
    assert (found.attempt, found.crashes) == (1, 0)
    assert store.get(late.id) == late


def test_at_the_end_of_time_everything_that_runs_is_reaped(store: TaskStore):
    for state in STATES:
        put_into(store, state)
        put_into(store, TaskState.PROCESSING)
    assert store.reap(float("inf")) == len(STATES) + 1
    counts = store.counts()
    assert counts[TaskState.PROCESSING] == 0
    assert (counts[TaskState.COMPLETED], counts[TaskState.FAILED]) == (1, 1)


# Sums


def test_running_tasks_wait_before_queued_ones_and_each_in_order(store: TaskStore):
    first = running(store)
    later = [new_task(created_at=at) for at in (3.0, 2.0, 4.0)]
    store.insert([replace(task, due=task.created_at) for task in later])
    put_into(store, TaskState.COMPLETED)
    assert [t.id for t in store.waiting(2)] == [first.id, later[1].id, later[0].id]


def test_the_line_is_what_is_queued_in_its_order(store: TaskStore):
    running(store)
    put_into(store, TaskState.FAILED)
    last, first, *same = [replace(new_task(), due=due) for due in (9.0, 1.0, 2.0, 2.0, 2.0)]
    store.insert([last, first, *same])
    line = [InLine(task.id, task.due, task.params.cost, "") for task in (first, *same, last)]
    assert store.line() == line


# Clients


def test_a_client_with_fewer_running_tasks_is_served_first(store: TaskStore):
    greedy = [replace(new_task(), client="greedy", due=due) for due in (1.0, 2.0, 3.0)]
    modest = replace(new_task(), client="modest", due=9.0)
    store.insert([*greedy, modest])
    claimed = [store.claim("g", 1, 100.0, LEASE_S)[0].id for _ in range(4)]
    assert claimed == [greedy[0].id, modest.id, greedy[1].id, greedy[2].id]


def test_what_is_due_late_is_left_unless_its_client_has_nothing_running(store: TaskStore):
    early, late, other = (
        replace(new_task(), client=client, due=due)
        for client, due in (("a", 1.0), ("a", 5.0), ("b", 7.0))
    )
    store.insert([early, late, other])
    ids = [[t.id for t in store.claim("g", 1, 100.0, LEASE_S, due_before=2.0)] for _ in range(3)]
    assert ids == [[early.id], [other.id], []]
    assert store.claim("g", 1, 100.0, LEASE_S, due_before=5.1)[0].id == late.id


def test_no_client_has_more_running_than_it_may(store: TaskStore):
    greedy = [
        replace(new_task(), client="greedy", due=due, max_running=2) for due in (1.0, 2.0, 3.0)
    ]
    modest = replace(new_task(), client="modest", due=9.0)
    store.insert(greedy)
    store.insert([modest])
    claimed = store.claim("g", 4, 100.0, LEASE_S)
    assert [task.id for task in claimed] == [greedy[0].id, greedy[1].id, modest.id]
    assert store.claim("g", 4, 100.0, LEASE_S) == []
    assert store.complete(claim_of(claimed[0]), 150.0, [], {})
    assert [t.id for t in store.claim("g", 4, 160.0, LEASE_S)] == [greedy[2].id]


def test_a_client_of_more_weight_has_more_running(store: TaskStore):
    heavy = [replace(new_task(), client="heavy", due=5.0, weight=2.0) for _ in range(4)]
    light = [replace(new_task(), client="light", due=1.0) for _ in range(4)]
    store.insert(heavy)
    store.insert(light)
    claimed = [store.claim("g", 1, 100.0, LEASE_S)[0].client for _ in range(6)]
    assert claimed == ["light", "heavy", "heavy", "light", "heavy", "heavy"]


# Submissions that come again


def test_the_same_key_and_body_is_answered_with_the_same_tasks(store: TaskStore):
    first = [replace(new_task(), client="c", digest=digest) for digest in ("x", "y")]
    again = [replace(new_task(), client="c", digest=digest) for digest in ("x", "y")]
    assert store.earlier(first, "k") == []
    assert store.insert(first, "k") == first
    assert store.earlier(again, "k") == store.insert(again, "k") == first
    assert store.counts()[TaskState.QUEUED] == 2


def test_a_key_stays_known_whatever_becomes_of_the_task(store: TaskStore):
    task = replace(new_task(), digest="x")
    store.insert([task], "k")
    assert store.cancel(task.id, 5.0)
    [found] = store.insert([replace(new_task(), digest="x")], "k")
    assert (found.id, found.state) == (task.id, TaskState.CANCELLED)


@pytest.mark.parametrize("digests", [["z"], ["x", "y"], []])
def test_the_same_key_with_another_body_is_refused(store: TaskStore, digests: list[str]):
    store.insert([replace(new_task(), digest="x")], "k")
    others = [replace(new_task(), digest=digest) for digest in digests] or [new_task()]
    for call in (store.insert, store.earlier):
        with pytest.raises(RequestReusedError, match="'k'"):
            call(others, "k")
    assert store.counts()[TaskState.QUEUED] == 1


def test_keys_are_each_clients_own_and_no_key_is_no_key(store: TaskStore):
    for client, key in (("a", "k"), ("b", "k"), ("a", "l"), ("a", None), ("a", None)):
        new = [replace(new_task(), client=client, digest="x")]
        assert store.insert(new, key) == new
    assert store.counts()[TaskState.QUEUED] == 5


def test_the_same_id_and_body_is_the_same_task(store: TaskStore):
    task = replace(new_task(), digest="x")
    store.insert([task])
    assert store.insert([replace(task, created_at=9.0)]) == [task]
    for other in ([replace(task, digest="y")], [task, new_task()]):
        with pytest.raises(RequestReusedError):
            store.insert(other)
    assert store.counts()[TaskState.QUEUED] == 1


def test_of_many_that_submit_the_same_at_once_one_makes_the_task(open_store: Open):
    stores = [open_store() for _ in range(3)] * 2
    answers: list[str] = []
    start = threading.Barrier(len(stores))

    def submit(store: TaskStore) -> None:
        task = replace(new_task(), digest="x")
        start.wait()
        answers.append(store.insert([task], "k")[0].id)

    threads = [threading.Thread(target=submit, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(stores)
    assert len(set(answers)) == 1
    assert stores[0].counts()[TaskState.QUEUED] == 1


# Bounds


def test_an_insertion_may_be_refused_by_what_is_there(store: TaskStore):
    put_into(store, TaskState.CANCELLED)
    running(store)
    mine = [replace(new_task(at, params(num_images=3)), client="me") for at in (10.0, 50.0)]
    store.insert(mine[:1])
    store.insert(mine[1:])
    queued(store, 2)
    seen: list[object] = []

    def check(backlog: Backlog) -> None:
        seen.append((backlog.queued(), backlog.client_queued(), backlog.recent()))
        raise OverloadError

    late = replace(new_task(90.0), client="me")
    with pytest.raises(OverloadError):
        store.insert([late], None, check)
    with pytest.raises(OverloadError):
        store.check([late], check)
    assert seen == [(4, 2, [(50.0, 3)])] * 2
    assert store.get(late.id) is None


def test_a_bound_holds_however_many_submit_at_once(open_store: Open):
    stores = [open_store() for _ in range(2)] * 4
    refused: list[int] = []
    start = threading.Barrier(len(stores))

    def check(backlog: Backlog) -> None:
        if backlog.queued() >= 5:
            raise OverloadError("full", 1.0)

    def submit(store: TaskStore) -> None:
        start.wait()
        for _ in range(3):
            try:
                store.insert([new_task()], None, check)
            except OverloadError:
                refused.append(1)

    threads = [threading.Thread(target=submit, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].counts()[TaskState.QUEUED] == 5
    assert len(refused) == 3 * len(stores) - 5


# Time-outs


def test_only_what_was_never_started_is_overdue_in_the_queue(store: TaskStore):
    old, new = new_task(10.0), new_task(90.0)
    store.insert([old, new])
    [started] = store.claim("g", 1, 50.0, LEASE_S)
    assert started.id == old.id
    assert store.release(claim_of(started), 1e3, crashed=True, reason="tested")
    assert store.end_overdue(TaskState.QUEUED, 100.0, 20.0, "late") == []
    assert store.end_overdue(TaskState.QUEUED, 200.0, 20.0, "late") == [new.id]
    found = store.get(new.id)
    assert (found.state, found.completed_at, found.error) == (TaskState.FAILED, 200.0, "late")
    assert store.get(old.id).state is TaskState.QUEUED


def test_what_runs_too_long_is_overdue_and_its_group_is_told_by_the_next_beat(store: TaskStore):
    long, short = running(store, now=100.0), running(store, now=150.0)
    assert store.end_overdue(TaskState.PROCESSING, 170.0, 60.0, "slow") == [long.id]
    assert store.beat({claim_of(long): 1, claim_of(short): 1}, 300.0, LEASE_S) == {claim_of(long)}
    assert store.get(long.id).error == "slow"


# Leases of one owner


def test_an_owner_takes_back_what_its_former_life_had_and_nothing_else(store: TaskStore):
    mine, other = queued(store, 2)
    assert store.claim("me", 1, 100.0, LEASE_S)[0].id == mine.id
    assert store.claim("other", 1, 100.0, LEASE_S)[0].id == other.id
    assert store.take_back("me", 1e3) == 1
    assert store.get(mine.id).state is TaskState.QUEUED
    assert store.get(other.id).state is TaskState.PROCESSING


def test_a_reason_that_no_database_can_hold_is_kept_as_far_as_it_can(store: TaskStore):
    task = running(store)
    assert store.fail(claim_of(task), 160.0, "bad \0 and \ud800")
    assert store.get(task.id).error == "bad  and ?"


# Durability


def test_everything_is_there_after_the_store_is_opened_again(open_store: Open):
    store = open_store()
    before = [put_into(store, state) for state in (*reversed(STATES), TaskState.QUEUED)]
    again = open_store()
    assert [again.get(task.id) for task in before] == [store.get(task.id) for task in before]
    assert again.counts() == store.counts()


def test_the_order_of_submission_survives_a_reopening(open_store: Open):
    ids = [task.id for task in queued(open_store(), 3)]
    ids += [task.id for task in queued(open_store(), 3)]
    assert [task.id for task in open_store().claim("g", 9, 100.0, LEASE_S)] == ids


# Any order of statements


class StoreMachine(RuleBasedStateMachine):
    """A store against a plain dictionary that obeys the table of transitions."""

    #: Opens an empty store.
    open: Callable[[], TaskStore]

    @initialize()
    def begin(self) -> None:
        self.store = self.open()
        self.expected: dict[str, Task] = {}
        self.now = 100.0
        self.stale: list[tuple[str, int]] = []
        self.lease_until: dict[str, float] = {}

    @rule()
    def submit(self) -> None:
        task = new_task(created_at=self.now)
        self.store.insert([task])
        self.expected[task.id] = task

    @rule(count=integers(1, 3))
    def claim(self, count: int) -> None:
        waiting = [t for t in self.expected.values() if t.state is TaskState.QUEUED][:count]
        for task in waiting:
            self.expected[task.id] = replace(
                task,
                state=TaskState.PROCESSING,
                attempt=task.attempt + 1,
                started_at=self.now,
                steps_done=0,
            )
            self.lease_until[task.id] = self.now + LEASE_S
        claimed = self.store.claim("g", count, self.now, LEASE_S)
        assert claimed == [self.expected[task.id] for task in waiting]

    @precondition(lambda self: self._running())
    @rule(place=integers(0, 20), crashed=integers(0, 1))
    def hand_back(self, place: int, crashed: int) -> None:
        task = self._pick(place)
        assert self.store.release(claim_of(task), self.now, bool(crashed), "tested")
        crashes = task.crashes + crashed
        self._ended(task, state=TaskState.QUEUED, started_at=None, steps_done=0, crashes=crashes)

    @precondition(lambda self: self._running())
    @rule(place=integers(0, 20))
    def complete(self, place: int) -> None:
        task = self._pick(place)
        assert self.store.complete(claim_of(task), self.now, ["a.png"], {})
        self._ended(task, state=TaskState.COMPLETED, completed_at=self.now, pictures=("a.png",))

    @precondition(lambda self: self._running())
    @rule(place=integers(0, 20))
    def fail(self, place: int) -> None:
        task = self._pick(place)
        assert self.store.fail(claim_of(task), self.now, "reason")
        self._ended(task, state=TaskState.FAILED, completed_at=self.now, error="reason")

    @precondition(lambda self: self._open())
    @rule(place=integers(0, 20))
    def cancel(self, place: int) -> None:
        tasks = self._open()
        task = tasks[place % len(tasks)]
        assert self.store.cancel(task.id, self.now)
        self._ended(task, state=TaskState.CANCELLED, completed_at=self.now)

    @rule(seconds=integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self._running())
    @rule(place=integers(0, 20), steps=integers(0, 50))
    def beat(self, place: int, steps: int) -> None:
        task = self._pick(place)
        lost = dict.fromkeys(self.stale[-1:], 7)
        beaten = self.store.beat({claim_of(task): steps} | lost, self.now, LEASE_S)
        assert beaten == set(lost)
        self.expected[task.id] = replace(task, steps_done=steps)
        self.lease_until[task.id] = self.now + LEASE_S

    @rule(queued_s=integers(1, 60), running_s=integers(1, 60))
    def end_overdue(self, queued_s: int, running_s: int) -> None:
        """Time-outs of tasks never started, and of those that run."""
        for state, bound in ((TaskState.QUEUED, queued_s), (TaskState.PROCESSING, running_s)):
            overdue = [
                task
                for task in self.expected.values()
                if task.state is state and self._since(task) < self.now - bound
            ]
            ended = self.store.end_overdue(state, self.now, bound, "too late")
            assert sorted(ended) == sorted(task.id for task in overdue)
            for task in overdue:
                self._ended(task, state=TaskState.FAILED, completed_at=self.now, error="too late")

    def _since(self, task: Task) -> float:
        if task.state is TaskState.PROCESSING:
            return task.started_at
        return task.created_at if task.attempt == 0 else self.now

    @rule()
    def crash(self) -> None:
        """The server is killed, and its next life takes back what it had."""
        running = self._running()
        assert self.store.take_back("nobody", 1e3) == 0
        assert self.store.take_back("g", 1e3) == len(running)
        for task in running:
            self._ended(task, state=TaskState.QUEUED, started_at=None, steps_done=0)

    @rule()
    def reap(self) -> None:
        expired = [t for t in self._running() if self.lease_until[t.id] < self.now]
        assert self.store.reap(self.now) == len(expired)
        for task in expired:
            self._ended(task, state=TaskState.QUEUED, started_at=None, steps_done=0)

    @invariant()
    def stale_claims_change_nothing(self) -> None:
        for claim in getattr(self, "stale", [])[-2:]:
            for write in FENCED.values():
                assert write(self.store, claim) is False

    @invariant()
    def the_table_is_as_expected(self) -> None:
        expected = getattr(self, "expected", {})
        counted = Counter(task.state for task in expected.values())
        for task in expected.values():
            assert self.store.get(task.id) == task
        if expected:
            assert self.store.counts() == {state: counted[state] for state in TaskState}

    def _running(self) -> list[Task]:
        return [t for t in self.expected.values() if t.state is TaskState.PROCESSING]

    def _open(self) -> list[Task]:
        states = (TaskState.QUEUED, TaskState.PROCESSING)
        return [t for t in self.expected.values() if t.state in states]

    def _pick(self, place: int) -> Task:
        tasks = self._running()
        return tasks[place % len(tasks)]

    def _ended(self, task: Task, **changes: object) -> None:
        self.expected[task.id] = replace(task, **changes)
        self.stale.append(claim_of(task))


def test_any_order_of_statements_keeps_to_the_table_of_transitions(
    open_fresh: Callable[[], Open],
):
    machine = type("Machine", (StoreMachine,), {"open": lambda self: open_fresh()()})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=12,
            stateful_step_count=25,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


# Models


def test_a_group_takes_the_tasks_of_its_model_and_those_of_any(store: TaskStore) -> None:
    full, fast, either = (
        replace(new_task(created_at=float(number)), model=model)
        for number, model in enumerate(("Full", "Fast", ""))
    )
    store.insert([full, fast, either])
    taken = store.claim("fast", 5, 10.0, 30.0, model="Fast")
    assert [task.id for task in taken] == [fast.id, either.id]
    assert store.claim("fast", 5, 10.0, 30.0, model="Fast") == []
    [left] = store.claim("any", 5, 10.0, 30.0)
    assert (left.id, left.model) == (full.id, "Full")
