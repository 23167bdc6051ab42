"""The time of a database, by which all machines on it measure leases."""

import threading
import time
from collections.abc import Callable

from sqlalchemy import text

from hidream_server.errors import StoreUnavailableError
from hidream_server.store.database import Database

#: It is asked again after so many seconds: two clocks drift apart by less than a millisecond.
_TRUSTED_S = 60.0
_NOW = text("SELECT extract(epoch FROM clock_timestamp())::double precision")


class DatabaseClock:
    """Seconds since the epoch as PostgreSQL says; may be asked from any thread."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asked_at = -_TRUSTED_S
        #: What the database says less what our own clock says, which no one sets.
        self._ahead_s = time.time() - monotonic()

    def __call__(self) -> float:
        with self._lock:
            if self._monotonic() - self._asked_at >= _TRUSTED_S:
                self._ask()
            return self._monotonic() + self._ahead_s

    def _ask(self) -> None:
        """Compare the two; while the database is away ours goes on from the last comparison."""
        before = self._monotonic()
        try:
            with self._database.read() as connection:
                said = float(connection.execute(_NOW).scalar_one())
        except StoreUnavailableError:
            return
        after = self._monotonic()
        self._asked_at = after
        self._ahead_s = said - (before + after) / 2
