"""Opens the task database and brings its schema to this version."""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text

from hidream_server.errors import DatabaseVersionError

#: The newest migration in `migrations/versions`.
SCHEMA_VERSION = "0003"


def open_database(path: Path) -> Engine:
    """Return an engine on an up-to-date SQLite file, made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    with engine.begin() as connection:
        version = _schema_version(connection)
        if version != SCHEMA_VERSION:
            _migrate(connection, version, path)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    """Make a commit mean "on the disk": accepted tasks survive a power cut."""
    # The driver would commit a migration's statements one by one; SQLAlchemy begins instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _schema_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _migrate(connection: Connection, version: str | None, path: Path) -> None:
    # Alembic is slow to import and needed only by a new or an older database.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseVersionError(
            f"The database {path} has schema {version}, this server knows up to {SCHEMA_VERSION}:"
            " start the newer server, or choose another --data-dir."
        ) from error
