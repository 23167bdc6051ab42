"""Processes on one PostgreSQL let each other know of news."""

import queue
from collections.abc import Iterator

import pytest
from psycopg import connect

from hidream_server.store.database import Database, open_postgresql
from hidream_server.store.hints import MOVED, QUEUED, Hints
from hidream_server.store.tasks import TaskStore
from tests.postgresql import Postgresql
from tests.support import new_database, new_queue, params, submit

PATIENCE_S = 30


@pytest.fixture
def url(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = open_postgresql(url)
    yield database
    database.dispose()


@pytest.fixture
def heard(url: str) -> "Iterator[queue.Queue[str]]":
    """What a process hears; that it has begun to listen is no news of anybody's."""
    news: queue.Queue[str] = queue.Queue()
    hints = Hints(url, news.put)
    assert news.get(timeout=PATIENCE_S) == QUEUED
    yield news
    hints.close()


def test_what_moves_a_task_is_heard_of(database, heard) -> None:
    tasks = new_queue(TaskStore(database))
    submit(tasks, [params()])
    [claimed] = tasks.claim("group", 1)
    tasks.hand_back((claimed.id, claimed.attempt), "no reason")
    [again] = tasks.claim("group", 1)
    tasks.complete((again.id, again.attempt), ["a.png"], {})
    said = [heard.get(timeout=PATIENCE_S) for _ in range(5)]
    assert said == [QUEUED, MOVED, QUEUED, MOVED, MOVED]


def test_of_one_that_is_cancelled_it_is_heard_which(database, heard) -> None:
    tasks = new_queue(TaskStore(database))
    [task] = submit(tasks, [params()])
    tasks.cancel(task.id)
    assert [heard.get(timeout=PATIENCE_S) for _ in range(2)] == [QUEUED, task.id]


def test_nothing_is_heard_of_what_changes_nothing(database, heard) -> None:
    tasks = new_queue(TaskStore(database))
    tasks.claim("group", 1)
    tasks.cancel("nobody")
    tasks.reap()
    submit(tasks, [params()])
    assert heard.get(timeout=PATIENCE_S) == QUEUED
    assert heard.empty()


def test_a_lost_connection_is_made_again(postgresql, url, database, heard) -> None:
    with connect(postgresql.url("postgres"), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        )
    # Begins to listen anew, and so might have missed something.
    assert heard.get(timeout=PATIENCE_S) == QUEUED
    submit(new_queue(TaskStore(database)), [params()])
    assert heard.get(timeout=PATIENCE_S) == QUEUED


def test_a_process_wakes_whom_it_concerns(tmp_path) -> None:
    tasks = new_queue(TaskStore(new_database(tmp_path / "tasks.db")))
    told: list[str] = []
    tasks.history.on_more(lambda: told.append("more"))
    tasks.on_submit(lambda: told.append("queued"))
    tasks.on_end(told.append)
    for news, expected in (
        (QUEUED, ["more", "queued"]),
        (MOVED, ["more"]),
        ("some-task", ["more", "some-task"]),
    ):
        told.clear()
        tasks.hear(news)
        assert told == expected
