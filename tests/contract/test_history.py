"""What every database does with the history: written with what happens, read in order."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest

from hidream_server.store.database import Database
from hidream_server.store.history import Entry, Happened
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.support import params

LEASE_S = 30.0


@pytest.fixture
def store(database: Database) -> TaskStore:
    return TaskStore(database)


def new_task(client: str = "", **changes: object) -> Task:
    return Task(
        id=str(uuid4()),
        state=TaskState.QUEUED,
        params=params(**changes),
        client=client,
        created_at=1.0,
    )


def told(store: TaskStore, task: Task | None = None) -> list[tuple[str, dict[str, object]]]:
    entries = store.history.after(0, 1000, None if task is None else task.id)
    return [(str(entry.what), dict(entry.about)) for entry in entries]


def test_a_whole_life(store: TaskStore):
    told_of: list[None] = []
    store.history.on_more(lambda: told_of.append(None))
    task = new_task("anna")
    store.insert([task])
    store.claim("g", 1, 2.0, LEASE_S)
    store.beat({(task.id, 1): 2}, 3.0, LEASE_S, [((task.id, 1), 0)])
    store.release((task.id, 1), 4.0, crashed=True, reason="rank 0 left")
    store.claim("g", 1, 5.0, LEASE_S)
    store.beat({(task.id, 2): 3}, 6.0, LEASE_S)
    store.complete((task.id, 2), 7.0, ["a.png"], {})
    assert store.delete(task.id, 8.0).pictures == ("a.png",)
    step = [("step", {"step": n, "steps": 4}) for n in range(5)]
    assert told(store) == [
        ("queued", {"images": 1}),
        ("started", {"attempt": 1}),
        *(step[1], step[2], ("preview", {"image_index": 0})),
        ("queued", {"reason": "rank 0 left"}),
        ("started", {"attempt": 2}),
        *(step[1], step[2], step[3], step[4]),
        ("completed", {"pictures": 1}),
        ("deleted", {}),
    ]
    entries = store.history.after(0, 100)
    assert [entry.at for entry in entries] == [1, 2, 3, 3, 3, 4, 5, 6, 6, 6, 7, 7, 8]
    assert {(entry.task_id, entry.client) for entry in entries} == {(task.id, "anna")}
    assert len(told_of) == 8


@pytest.mark.parametrize(
    ("end", "what", "about"),
    [
        (lambda store, id: store.cancel(id, 9.0), "cancelled", {}),
        (lambda store, id: store.fail((id, 1), 9.0, "no disk"), "failed", {"error": "no disk"}),
        (lambda store, _id: store.reap(1e6), "queued", {"reason": "Nobody renewed its lease."}),
        (
            lambda store, _id: store.take_back("g", 9.0),
            "queued",
            {"reason": "The server was restarted."},
        ),
        (
            lambda store, _id: store.end_overdue(TaskState.PROCESSING, 1e6, 10.0, "too long"),
            "failed",
            {"error": "too long"},
        ),
    ],
)
def test_what_else_may_happen(store: TaskStore, end, what, about):
    task = new_task()
    store.insert([task])
    store.claim("g", 1, 2.0, LEASE_S)
    assert end(store, task.id)
    assert told(store, task)[-1] == (what, about)


def test_what_does_not_happen_is_not_told(store: TaskStore):
    task = new_task()
    store.insert([task])
    store.claim("g", 1, 2.0, LEASE_S)
    before = told(store)
    assert not store.complete((task.id, 7), 3.0, [], {})
    assert not store.fail((task.id, 7), 3.0, "stale")
    assert not store.release((task.id, 7), 3.0, crashed=False, reason="stale")
    assert store.beat({(task.id, 7): 3}, 3.0, LEASE_S, [((task.id, 7), 0)]) == {(task.id, 7)}
    assert store.delete(task.id, 3.0) is None
    assert not store.cancel(str(uuid4()), 3.0)
    assert told(store) == before


def test_a_beat_that_comes_again_tells_no_step_twice(store: TaskStore):
    task = new_task()
    store.insert([task])
    store.claim("g", 1, 2.0, LEASE_S)
    for steps in (2, 2, 3):
        store.beat({(task.id, 1): steps}, 3.0, LEASE_S)
    assert [about["step"] for what, about in told(store) if what == "step"] == [1, 2, 3]


def test_reading_is_by_task_by_client_and_from_a_number_on(store: TaskStore):
    mine, other = new_task("me"), new_task("other")
    store.insert([mine])
    store.insert([other])
    store.cancel(mine.id, 5.0)

    def read(*args: object, **about: object) -> list[Entry]:
        return store.history.after(*args, **about)  # type: ignore[arg-type]

    everything = read(0, 10)
    assert [entry.task_id for entry in everything] == [mine.id, other.id, mine.id]
    assert read(everything[0].number, 10) == everything[1:]
    assert read(0, 2) == everything[:2]
    assert read(0, 10, task_id=mine.id) == read(0, 10, client="me") == everything[::2]
    assert store.history.last_number() == everything[-1].number


def test_the_history_of_ended_tasks_is_forgotten_in_time(store: TaskStore):
    ended, waiting, late = new_task(), new_task(), replace(new_task(), created_at=90.0)
    for task in (ended, waiting, late):
        store.insert([task])
    store.cancel(ended.id, 60.0)
    store.cancel(late.id, 95.0)
    last = store.history.last_number()
    assert store.history.forget(before=90.0) == 2
    assert told(store, ended) == []
    assert len(told(store, waiting)) == 1
    assert len(told(store, late)) == 2
    # Numbers go on even when the latest entries are gone.
    store.delete(late.id, 96.0)
    store.history.forget(before=1e9)
    store.cancel(waiting.id, 97.0)
    assert store.history.after(0, 10)[-1].number > last


def test_numbers_never_appear_behind_one_that_was_read(
    new_databases: Callable[[], Callable[[], Database]],
):
    """Writers that overlap may commit in another order than that of their numbers."""
    open_database = new_databases()
    databases = [open_database() for _ in range(4)]
    stores = [TaskStore(database) for database in databases]

    def write(store: TaskStore) -> None:
        for _ in range(25):
            task = new_task()
            store.insert([task])
            store.cancel(task.id, 5.0)

    seen: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, store) for store in stores[1:]]
        while not all(writer.done() for writer in writers):
            seen += [
                e.number
                for e in stores[0].history.after(seen[-1] if seen else 0, 1000, settled=True)
            ]
        for writer in writers:
            writer.result()
    seen += [e.number for e in stores[0].history.after(seen[-1] if seen else 0, 1000, settled=True)]
    assert seen == [entry.number for entry in stores[0].history.after(0, 1000)]
    assert len(seen) == 3 * 25 * 2
    assert stores[0].history.after(0, 1)[0].what is Happened.QUEUED
    for database in databases:
        database.dispose()
