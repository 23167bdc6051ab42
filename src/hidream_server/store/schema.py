"""Brings a database's schema to this version: a copy first, then the migrations.

Refuses a database that a newer version has written.
"""

import logging
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from hidream_server.errors import DatabaseVersionError

logger = logging.getLogger(__name__)

#: The newest migration in `migrations/versions`.
SCHEMA_VERSION = "0010"
#: Names the advisory lock under which servers that start at once on PostgreSQL take turns.
_MIGRATING = 0x48694D67


def bring_up_to_date(engine: Engine) -> None:
    """Migrate, after a copy was made, unless the schema is this version's already."""
    version = known_version(engine)
    if version == SCHEMA_VERSION:
        return
    if engine.dialect.name == "sqlite":
        _migrate_file(engine, version)
    else:
        _migrate_shared(engine)


def known_version(engine: Engine) -> str | None:
    """Return the schema's version, None of an empty database.

    Raises DatabaseVersionError if a newer version of this server has written it.
    """
    with engine.connect() as connection:
        version = schema_version(connection)
    if version not in (None, SCHEMA_VERSION) and version not in _revisions():
        raise DatabaseVersionError(
            f"The database {engine.url.render_as_string(hide_password=True)} has schema"
            f" {version}, this server knows up to {SCHEMA_VERSION}: start the newer server, or"
            " choose another --data-dir or --database-url."
        )
    return version


def schema_version(connection: Connection) -> str | None:
    """Return the schema's version, None of an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _migrate_file(engine: Engine, version: str | None) -> None:
    """Copy a SQLite file beside itself, then migrate it in one transaction."""
    if version is not None:
        copy = Path(f"{engine.url.database}.{version}.bak")
        # An earlier try may have been cut short after its copy, or in the middle of it.
        copy.unlink(missing_ok=True)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Even so a transaction was begun, in which there can be no VACUUM.
            connection.exec_driver_sql("COMMIT")
            connection.execute(text("VACUUM INTO :copy"), {"copy": str(copy)})
        logger.warning("The task database is migrated; as it was it is kept as %s", copy)
    with engine.begin() as connection:
        _migrate(connection)


def _migrate_shared(engine: Engine) -> None:
    """Copy the table within PostgreSQL and migrate, all in one transaction."""
    with engine.begin() as connection:
        # To copy and migrate many tasks takes its time, and so does waiting for who does it.
        for bound in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {bound} = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATING})
        version = schema_version(connection)
        if version == SCHEMA_VERSION:
            return
        if version is not None:
            copy = f"tasks_{version}_bak"
            connection.execute(text(f"DROP TABLE IF EXISTS {copy}"))
            connection.execute(text(f"CREATE TABLE {copy} AS TABLE tasks"))
            logger.warning("The task database is migrated; the table is kept as %s", copy)
        _migrate(connection)


def _revisions() -> set[str]:
    # Alembic is slow to import and needed only by a new or an older database.
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(_migrations()).walk_revisions()}


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", _migrations())
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _migrations() -> str:
    return str(Path(__file__).parent / "migrations")
