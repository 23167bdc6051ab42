"""Opening the task database: new, current, newer; and what a commit means."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text

import hidream_server.store
from hidream_server.errors import DatabaseVersionError
from hidream_server.store.database import open_sqlite
from hidream_server.store.schema import SCHEMA_VERSION
from hidream_server.store.tables import metadata

MIGRATIONS = Path(hidream_server.store.__file__).parent / "migrations"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "tasks.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    database = open_sqlite(path)
    yield database.engine
    database.dispose()


def version_of(engine: Engine) -> str:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT version_num FROM alembic_version"))


def set_version(path: Path, version: str) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
    engine.dispose()


def test_the_schema_version_is_the_newest_migration():
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [SCHEMA_VERSION]


def test_a_new_file_is_made_with_its_folder_and_comes_to_the_newest_schema(engine, path):
    assert path.is_file()
    assert version_of(engine) == SCHEMA_VERSION


def test_the_migrated_schema_is_the_one_of_the_tables(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_migrated_indexes_and_unique_columns_are_those_of_the_tables(engine, tmp_path):
    declared = create_engine(f"sqlite:///{tmp_path}/declared.db")
    metadata.create_all(declared)
    for made in (inspect(engine), inspect(declared)):
        assert sorted(index["column_names"] for index in made.get_indexes("tasks")) == [
            ["client", "created_at"],
            ["client", "request_key", "request_index"],
            ["state", "completed_at"],
            ["state", "due", "sequence"],
        ]
        assert made.get_unique_constraints("tasks")[0]["column_names"] == ["id"]
        assert made.get_pk_constraint("tasks")["constrained_columns"] == ["sequence"]
    declared.dispose()


def test_every_connection_writes_ahead_and_waits_for_the_disk(engine):
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(engine.connect())
            assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
            assert connection.scalar(text("PRAGMA synchronous")) == 2
            assert connection.scalar(text("PRAGMA busy_timeout")) == 30_000


def test_a_database_that_is_up_to_date_is_opened_without_alembic(engine, path):
    code = (
        "import sys; from pathlib import Path;"
        "from hidream_server.store.database import open_sqlite;"
        f"open_sqlite(Path({str(path)!r})).dispose();"
        "sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_opening_again_keeps_what_is_there(engine, path):
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (x INTEGER)"))
    again = open_sqlite(path).engine
    assert inspect(again).has_table("mine")
    again.dispose()


def test_a_database_of_a_newer_server_is_refused_in_one_sentence_and_left_alone(engine, path):
    set_version(path, "9999")
    with pytest.raises(DatabaseVersionError) as caught:
        open_sqlite(path)
    message = str(caught.value)
    assert str(path) in message
    assert "9999" in message
    assert SCHEMA_VERSION in message
    assert "--data-dir" in message
    assert "\n" not in message
    assert version_of(engine) == "9999"


def test_tasks_of_an_older_server_keep_their_order(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parent / "schema_0001.sql").read_text())
    engine = open_sqlite(path).engine
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT id, due FROM tasks ORDER BY due")).all()
    assert [tuple(row) for row in rows] == [("first", 10.0), ("second", 20.0)]
    assert version_of(engine) == SCHEMA_VERSION
    engine.dispose()
    with sqlite3.connect(path.with_name("tasks.db.0001.bak")) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert copy.execute("SELECT id FROM tasks ORDER BY id").fetchall() == [
            ("first",),
            ("second",),
        ]


def test_a_migration_that_is_cut_short_leaves_nothing_behind(path, monkeypatch):
    def cut(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("alembic.op.create_index", cut)
    with pytest.raises(RuntimeError, match="power cut"):
        open_sqlite(path)
    monkeypatch.undo()
    engine = open_sqlite(path).engine
    assert version_of(engine) == SCHEMA_VERSION
    assert inspect(engine).get_indexes("tasks")
    engine.dispose()
