"""Opens a task database, SQLite or PostgreSQL, and runs transactions on it.

Knows the differences between the two, and the trouble they can be in; knows no table.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hidream_server.errors import ConfigurationError, StoreUnavailableError
from hidream_server.store.schema import bring_up_to_date, known_version

logger = logging.getLogger(__name__)

#: What is done in a transaction beside what it was begun for.
Along = Callable[[Connection], object]

#: A database that is gone is noticed after about so many seconds.
_NOTICE_S = 5
#: For PostgreSQL: a connection whose other end has vanished ends by itself.
_POSTGRESQL = {
    "connect_timeout": _NOTICE_S,
    "keepalives_idle": _NOTICE_S,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 1000 * _NOTICE_S,
    # One that stands still in the middle of a transaction must not stop all others, and what is
    # committed is on the disk.
    "options": "-c statement_timeout=15s -c lock_timeout=5s"
    " -c idle_in_transaction_session_timeout=15s -c synchronous_commit=on",
}
#: SQLSTATEs of a server that answers but cannot write: a standby, one that starts or ends.
_AWAY = ("25006", "57P01", "57P02", "57P03")
#: Classes of SQLSTATEs that pass by themselves: two in each other's way, a time-out.
_PASSING = ("40", "55", "57014")
#: Names the advisory lock under which exclusive writers of PostgreSQL take turns.
_EXCLUSIVE = 0x48694472
#: Names the one that every writer of PostgreSQL shares, so that a reader can wait for all of them.
_WRITING = 0x48695772
#: How long such a reader waits, and may keep later writers from beginning, in milliseconds.
_SETTLE_MS = 250


class _Trouble(Enum):
    """What may be tried again, as it is."""

    GONE = auto()
    PASSING = auto()


def _trouble(error: DBAPIError) -> _Trouble | None:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state.startswith(_PASSING):
        return _Trouble.PASSING
    gone = isinstance(error, OperationalError | InterfaceError) or state in _AWAY
    return _Trouble.GONE if gone or error.connection_invalidated else None


def _reason(error: SQLAlchemyError) -> str:
    """Return what the driver says, in one line that is not too long."""
    cause = getattr(error, "orig", None) or error
    return "; ".join(str(cause).split("\n"))[:500].strip(" ;")


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
        # SQLite reads as well without, each statement by itself, which is cheaper.
        self._reader = engine.execution_options(begin="")
        #: Ways in which it does not answer: a full disk can be read.
        self._failing: set[str] = set()
        self._answering_since = clock()

    def answering_s(self) -> float:
        """Return for how many seconds it has answered without a failure; 0 while it does not."""
        return 0.0 if self._failing else self._clock() - self._answering_since

    @contextmanager
    def read(self, settled: bool = False) -> Iterator[Connection]:
        """Read; `settled`: when all who began to write before have written.

        PostgreSQL numbers rows before they can be seen: without waiting, a number might be read
        before a lower one. Raises StoreUnavailableError if that takes long.
        """
        with self._noting_trouble("read"), self._reader.connect() as connection:
            if settled and not self._is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = {_SETTLE_MS}"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _WRITING})
            yield connection

    @contextmanager
    def write(self, exclusive: bool = False) -> Iterator[Connection]:
        """Begin a transaction; no two exclusive ones run at the same time, on any machine."""
        if self._is_sqlite:
            with (
                self._noting_trouble("write"),
                self._writing,
                self._sqlite_writer.begin() as connection,
            ):
                yield connection
            return
        with self._noting_trouble("write"), self.engine.begin() as connection:
            if exclusive:
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _EXCLUSIVE})
            # Not before: whoever waits for its turn does not write yet.
            connection.execute(text("SELECT pg_advisory_xact_lock_shared(:n)"), {"n": _WRITING})
            yield connection

    def dispose(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _noting_trouble(self, way: str) -> Iterator[None]:
        """Let those above know trouble with the database without knowing SQLAlchemy."""
        try:
            yield
        except PoolTimeoutError as error:
            # All connections are in use; that says nothing of the database.
            raise StoreUnavailableError from error
        except DBAPIError as error:
            trouble = _trouble(error)
            if trouble is _Trouble.GONE:
                self._fails(way, error)
            if trouble is not None:
                raise StoreUnavailableError from error
            raise
        if self._failing:
            self._answers(way)

    def _fails(self, way: str, error: DBAPIError) -> None:
        """Say once that it is gone."""
        if not self._failing:
            logger.error("The task database does not answer: %s", _reason(error))
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
    return _opened(_sqlite(path))


def check_sqlite(path: Path) -> None:
    """Raise ConfigurationError if there is a file that could not be opened; change nothing."""
    if path.exists():
        with _disposed(_sqlite_as_it_is(path)) as engine, _answering(engine):
            known_version(engine)


def open_postgresql(url: str) -> Database:
    """Return an up-to-date PostgreSQL database; raise ConfigurationError if it does not answer."""
    engine = _postgresql(url)
    with _answering(engine):
        return _opened(engine)


def check_postgresql(url: str) -> None:
    """Raise ConfigurationError if a database could not be opened; change nothing."""
    with _disposed(_postgresql(url)) as engine, _answering(engine):
        known_version(engine)


def _sqlite(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _sqlite_as_it_is(path: Path) -> Engine:
    """Open a file to be read only, without even the index that a reader would make beside it."""
    # What a server that runs has not yet moved into the file can be read with its index only.
    way = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    return create_engine(f"sqlite:///file:{quote(str(path.absolute()))}?{way}&uri=true")


def _postgresql(url: str) -> Engine:
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_timeout=_NOTICE_S,
            connect_args=_POSTGRESQL,
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "The driver for PostgreSQL is not installed: pip install 'hidream-server[postgresql]'."
        ) from error
    except (SQLAlchemyError, ValueError) as error:
        # It may have a password in it.
        raise ConfigurationError("The --database-url cannot be read as an address.") from error


@contextmanager
def _answering(engine: Engine) -> Iterator[None]:
    """Let a database that does not answer at the start be an option that cannot be."""
    try:
        yield
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise ConfigurationError(
            f"The task database {where} does not answer as it should: {_reason(error)}"
        ) from error


@contextmanager
def _disposed(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.dispose()


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
    if statement := connection.get_execution_options().get("begin", "BEGIN"):
        connection.exec_driver_sql(statement)
