"""Opens a task database, SQLite or PostgreSQL, and runs transactions on it.

Knows the differences between the two, and the trouble they can be in; knows no table.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hidream_server.errors import ConfigurationError, StoreUnavailableError
from hidream_server.store.schema import bring_up_to_date

logger = logging.getLogger(__name__)

#: A database that is gone is noticed after about so many seconds.
_NOTICE_S = 5
#: For PostgreSQL: a connection whose other end has vanished ends by itself.
_POSTGRESQL = {
    "connect_timeout": _NOTICE_S,
    "keepalives_idle": _NOTICE_S,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 1000 * _NOTICE_S,
}
#: Names the advisory lock under which writers of PostgreSQL that must be alone take turns.
_ALONE = 0x48694472


class Database:
    """Transactions on one database; may be used from any thread."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self._clock = clock
        self._is_sqlite = engine.dialect.name == "sqlite"
        # SQLite has one writer; queueing here is quicker and fairer than its busy back-off.
        self._writing = threading.Lock()
        # It writes from its first statement on: nobody may write between a look and a decision.
        self._sqlite_writer = engine.execution_options(begin="BEGIN IMMEDIATE")
        #: Ways in which it does not answer: a full disk can be read.
        self._failing: set[str] = set()
        self._answering_since = clock()

    def answering_s(self) -> float:
        """Return for how many seconds it has answered without a failure; 0 while it does not."""
        return 0.0 if self._failing else self._clock() - self._answering_since

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._noting_trouble("read"), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, alone: bool = False) -> Iterator[Connection]:
        """Begin a transaction; with `alone` no other such one runs beside it, on any machine."""
        if self._is_sqlite:
            with (
                self._noting_trouble("write"),
                self._writing,
                self._sqlite_writer.begin() as connection,
            ):
                yield connection
            return
        with self._noting_trouble("write"), self.engine.begin() as connection:
            if alone:
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ALONE})
            yield connection

    def dispose(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _noting_trouble(self, way: str) -> Iterator[None]:
        """Let those above know trouble with the database without knowing SQLAlchemy."""
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            self._fails(way, error)
            raise StoreUnavailableError from error
        except DBAPIError as error:
            if error.connection_invalidated:
                self._fails(way, error)
                raise StoreUnavailableError from error
            raise
        if self._failing:
            self._answers(way)

    def _fails(self, way: str, error: Exception) -> None:
        """Say once that it is gone."""
        if not self._failing:
            cause = getattr(error, "orig", None) or error
            logger.error("The task database does not answer: %s", str(cause).split("\n", 1)[0])
        self._failing.add(way)

    def _answers(self, way: str) -> None:
        """Say once that it is back; what can be written can be read."""
        self._failing -= {way} if way == "read" else {"read", "write"}
        if not self._failing:
            self._answering_since = self._clock()
            logger.warning("The task database answers again")


def open_sqlite(path: Path) -> Database:
    """Return an up-to-date SQLite file, made if it is not there; one process may own it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin)
    return _opened(engine)


def open_postgresql(url: str) -> Database:
    """Return an up-to-date PostgreSQL database; raise ConfigurationError if it does not answer."""
    try:
        engine = create_engine(
            url, pool_pre_ping=True, pool_timeout=_NOTICE_S, connect_args=_POSTGRESQL
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "The driver for PostgreSQL is not installed: pip install 'hidream-server[postgresql]'."
        ) from error
    try:
        return _opened(engine)
    except OperationalError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise ConfigurationError(
            f"The task database {where} does not answer: {str(error.orig).splitlines()[0]}"
        ) from error


def _opened(engine: Engine) -> Database:
    try:
        bring_up_to_date(engine)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine)


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Make a commit mean "on the disk": accepted tasks survive a power cut."""
    # The driver would commit a migration's statements one by one; SQLAlchemy begins instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
