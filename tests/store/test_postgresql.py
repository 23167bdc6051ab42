"""What is particular to PostgreSQL: it may be gone for a while, and many may open it at once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

import hidream_server.store
from hidream_server.errors import ConfigurationError, DatabaseVersionError, StoreUnavailableError
from hidream_server.store.database import open_postgresql
from hidream_server.store.schema import SCHEMA_VERSION
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.postgresql import Postgresql
from tests.support import Clock, params


@pytest.fixture
def own_server() -> Iterator[Postgresql]:
    """A server that a test may do anything to."""
    with Postgresql() as server:
        yield server


def a_task(number: int) -> Task:
    task_id = f"00000000-0000-4000-8000-{number:012d}"
    return Task(id=task_id, state=TaskState.QUEUED, params=params(), created_at=1.0)


def older_database(url: str, version: str) -> None:
    """Bring an empty database to an older schema, with a task in it."""
    engine = create_engine(url)
    config = Config()
    folder = Path(hidream_server.store.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        connection.execute(
            text(
                "INSERT INTO tasks (id, state, params, cost, created_at, attempt, crashes,"
                " steps_done, pictures, error, timings)"
                " VALUES ('old', 'completed', '{}', 1, 10, 1, 0, 4, '[]', '', '{}')"
            )
        )
    engine.dispose()


def test_a_database_that_was_gone_has_everything_that_was_accepted(own_server: Postgresql):
    database = open_postgresql(own_server.new_database())
    store = TaskStore(database)
    store.insert([a_task(1), a_task(2)])
    [task] = store.claim("g", 1, 100.0, 30.0)
    own_server.crash()
    for call in (
        lambda: store.get(task.id),
        lambda: store.insert([a_task(3)]),
        lambda: store.beat({(task.id, 1): 2}, 170.0, 30.0),
        lambda: store.complete((task.id, 1), 150.0, [], {}),
    ):
        with pytest.raises(StoreUnavailableError):
            call()
    assert database.answering_s() == 0.0
    own_server.start()
    assert store.beat({(task.id, 1): 2}, 170.0, 30.0) == set()
    assert store.complete((task.id, 1), 150.0, ["a.png"], {})
    assert store.counts()[TaskState.QUEUED] == 1
    assert database.answering_s() > 0.0
    database.dispose()


def test_it_is_said_once_that_it_is_gone_and_once_that_it_is_back(
    own_server: Postgresql, caplog: pytest.LogCaptureFixture
):
    database = open_postgresql(own_server.new_database())
    store = TaskStore(database)
    own_server.crash()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            store.counts()
    own_server.start()
    for _ in range(3):
        store.counts()
    said = [record.getMessage() for record in caplog.records if "database" in record.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("The task database does not answer")
    assert said[1] == "The task database answers again"
    database.dispose()


def test_how_long_it_has_answered_counts_from_its_return(own_server: Postgresql):
    database = open_postgresql(own_server.new_database())
    clock = Clock(50.0)
    database._clock, database._answering_since = clock, 50.0
    store = TaskStore(database)
    clock.now = 90.0
    assert database.answering_s() == 40.0
    own_server.crash()
    with pytest.raises(StoreUnavailableError):
        store.counts()
    own_server.start()
    store.counts()
    clock.now = 95.0
    assert database.answering_s() == 5.0
    database.dispose()


def test_a_server_that_is_not_there_is_one_sentence_without_the_password():
    url = "postgresql://someone:secret@127.0.0.1:1/tasks"
    with pytest.raises(ConfigurationError, match="does not answer") as caught:
        open_postgresql(url)
    assert "secret" not in str(caught.value)


def test_an_older_database_is_migrated_after_a_copy(postgresql: Postgresql):
    url = postgresql.new_database()
    older_database(url, "0001")
    database = open_postgresql(url)
    with database.read() as connection:
        version = connection.scalar(text("SELECT version_num FROM alembic_version"))
        assert version == SCHEMA_VERSION
        assert connection.execute(text("SELECT id, due FROM tasks")).all() == [("old", 10.0)]
        assert connection.execute(text("SELECT id FROM tasks_0001_bak")).all() == [("old",)]
    database.dispose()


def test_many_that_open_a_new_database_at_once_migrate_it_once(postgresql: Postgresql):
    url = postgresql.new_database()
    opened, start = [], threading.Barrier(4)

    def open_it() -> None:
        start.wait()
        opened.append(open_postgresql(url))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for database in opened:
        database.dispose()


def test_a_newer_database_is_refused_in_one_sentence(postgresql: Postgresql):
    url = postgresql.new_database()
    database = open_postgresql(url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.dispose()
    with pytest.raises(DatabaseVersionError, match="9999") as caught:
        open_postgresql(url)
    assert "\n" not in str(caught.value)
