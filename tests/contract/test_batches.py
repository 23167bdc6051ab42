"""What every database does with batches, whose tasks say how they are doing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from hidream_server.errors import QueueFullError
from hidream_server.store.backlog import Backlog
from hidream_server.store.batches import Batch, BatchStore, Line, Progress
from hidream_server.store.database import Database
from hidream_server.store.history import Happened
from hidream_server.store.paging import Page
from hidream_server.store.retention import EndedTasks, Excess
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.support import params

LINES = [Line(f"line {n}", {"prompt": "红色的圆", "n": n}) for n in range(3)]


@pytest.fixture
def batches(database: Database) -> BatchStore:
    return BatchStore(database)


@pytest.fixture
def tasks(database: Database) -> TaskStore:
    return TaskStore(database)


def a_batch(name: str = "a", created_at: float = 10.0, total: int = 3) -> Batch:
    return Batch(
        id=f"batch_{name}",
        client="anna",
        endpoint="/v1/images/generations",
        input_file_id="file-a",
        completion_window="24h",
        created_at=created_at,
        metadata={"für": "Weihnachten"},
        total=total,
        errors=[],
    )


def drafts(batch: Batch, first: int = 0) -> list[Task]:
    return [
        Task(
            id=f"00000000-0000-4000-8000-{first + n:012d}",
            state=TaskState.QUEUED,
            params=params(),
            client="anna",
            created_at=batch.created_at,
            due=float(first + n),
        )
        for n in range(batch.total)
    ]


@pytest.fixture
def kept(batches: BatchStore, tasks: TaskStore) -> Callable[..., Batch]:
    """Return a function that keeps a batch with its tasks."""

    def keep(batch: Batch, first: int = 0) -> Batch:
        along = batches.adding(batch, LINES)
        tasks.insert(drafts(batch, first), batch.request_key, along=along)
        return batch

    return keep


def ids(found: tuple[list[Batch], bool]) -> tuple[list[str], bool]:
    return [batch.id.removeprefix("batch_") for batch in found[0]], found[1]


def test_a_batch_is_found_as_it_was_kept(batches: BatchStore, kept):
    batch = kept(a_batch())
    assert batches.find("batch_a") == batch
    assert batches.lines(batch) == LINES
    assert batches.find("batch_b") is None
    found = batches.tasks(batch, 0, 100)
    assert [task.id for task in found.values()] == [task.id for task in drafts(batch)]
    assert list(found) == [0, 1, 2]
    assert list(batches.tasks(batch, 1, 1)) == [1]


def test_a_batch_of_which_nothing_comes_says_why(batches: BatchStore):
    errors = [{"code": "invalid_json", "line": 3, "message": "no", "param": None}]
    batches.add(replace(a_batch(total=0), errors=errors))
    found = batches.find("batch_a")
    assert found is not None
    assert found.errors == errors
    assert batches.lines(found) == []
    assert batches.progress([found]) == {"batch_a": Progress()}


def test_without_room_for_its_tasks_there_is_no_batch(batches: BatchStore, tasks: TaskStore):
    def full(_: Backlog) -> None:
        raise QueueFullError

    batch = a_batch()
    with pytest.raises(QueueFullError):
        tasks.insert(drafts(batch), batch.request_key, full, batches.adding(batch, LINES))
    assert batches.find(batch.id) is None
    assert tasks.counts()[TaskState.QUEUED] == 0


def test_without_a_batch_there_are_no_tasks(tasks: TaskStore):
    def cut(_: Connection) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        tasks.insert(drafts(a_batch()), "key", along=cut)
    assert tasks.counts()[TaskState.QUEUED] == 0
    assert tasks.history.after(0, 10) == []


def test_its_tasks_say_how_it_is_doing(
    batches: BatchStore, tasks: TaskStore, database: Database, kept
):
    batch, other = kept(a_batch()), kept(a_batch("b"), first=10)
    tasks.insert([replace(drafts(batch)[0], id="00000000-0000-4000-8000-000000000099")])
    everybody = batches.progress([batch, other])
    assert everybody == {batch.id: Progress(3, 0, 0, None), other.id: Progress(3, 0, 0, None)}
    done, failed, _ = drafts(batch)
    for task in tasks.claim("g", 7, 20.0, 30.0):
        if task.id == done.id:
            tasks.complete((task.id, 1), 25.0, ["a.png"], {})
        if task.id == failed.id:
            tasks.fail((task.id, 1), 24.0, "no")
    assert batches.progress([batch])[batch.id] == Progress(1, 1, 0, 25.0)
    EndedTasks(database).expire(Excess(made_before=26.0, size_bytes=9.0), 30.0)
    assert batches.progress([batch])[batch.id] == Progress(1, 1, 1, 25.0)
    assert batches.progress([other])[other.id] == Progress(3, 0, 0, None)


def test_cancelling_takes_all_that_has_not_ended_and_marks_the_batch(
    batches: BatchStore, tasks: TaskStore, kept
):
    batch, other = kept(a_batch()), kept(a_batch("b"), first=10)
    tasks.cancel(drafts(batch)[0].id, 15.0)
    along = batches.cancelling(batch, 20.0)
    cancelled = tasks.cancel_request("anna", batch.request_key, 20.0, along)
    assert sorted(cancelled) == [task.id for task in drafts(batch)[1:]]
    found = batches.find(batch.id)
    assert found is not None
    assert found.cancelled_at == 20.0
    assert batches.progress([batch])[batch.id] == Progress(0, 0, 0, 20.0)
    last = [entry for entry in tasks.history.after(0, 99) if entry.at == 20.0]
    assert [entry.what for entry in last] == [Happened.CANCELLED] * 2
    assert batches.progress([other])[other.id].open == 3


def test_what_has_ended_is_not_cancelled(batches: BatchStore, tasks: TaskStore, kept):
    batch = kept(a_batch(total=1))
    tasks.cancel(drafts(batch)[0].id, 15.0)
    along = batches.cancelling(batch, 20.0)
    assert tasks.cancel_request("anna", batch.request_key, 20.0, along) == []
    found = batches.find(batch.id)
    assert found is not None
    assert found.cancelled_at is None


def test_pages_are_the_newest_first(batches: BatchStore):
    for name, at in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        batches.add(a_batch(name, at))
    assert ids(batches.page(Page(count=2, client="anna"))) == (["c", "b"], True)
    assert ids(batches.page(Page(count=2, after="batch_b"))) == (["a"], False)
    assert ids(batches.page(Page(count=2, client="ben"))) == ([], False)


def test_an_old_batch_is_forgotten_once_its_tasks_are(batches: BatchStore, tasks: TaskStore, kept):
    batch = kept(a_batch(created_at=1.0, total=1))
    batches.add(a_batch("old", 1.0))
    batches.add(a_batch("new", 6.0))
    assert batches.forget(5.0) == 1
    assert ids(batches.page(Page(count=9))) == (["new", "a"], False)
    [task] = drafts(batch)
    tasks.cancel(task.id, 5.0)
    assert tasks.delete(task.id, 6.0)
    assert batches.progress([batch])[batch.id] == Progress()
    assert batches.forget(5.0) == 1
    assert ids(batches.page(Page(count=9))) == (["new"], False)
