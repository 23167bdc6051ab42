"""What a PostgreSQL does while something else is measured: its CPU, its rows, what it waits for."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

import psutil
import psycopg

from tests.postgresql import Postgresql

_SAMPLE_S = 0.02
_ACTIVITY = """
    SELECT CASE WHEN state = 'active' THEN coalesce(wait_event_type || ':' || wait_event, 'CPU')
                ELSE 'its client' END
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND state IN ('active', 'idle in transaction')
"""
_LOCKS = "SELECT 'lock ' || locktype FROM pg_locks WHERE NOT granted"
_ROWS = """
    SELECT sum(seq_tup_read + idx_tup_fetch), sum(n_tup_ins + n_tup_upd), sum(n_tup_hot_upd)
    FROM pg_stat_user_tables
"""


@dataclass
class Watch:
    """Watches one database of a server from entry to exit."""

    server: Postgresql
    url: str
    #: Look now and then what connections do, and not only how much was done in all.
    sample: bool = True
    #: How often which was seen, and of how many looks.
    waits: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    #: From entry to exit: seconds of a core; rows; bytes of WAL; most connections at once.
    cpu_s: float = 0.0
    rows_read: int = 0
    rows_written: int = 0
    rows_hot: int = 0
    wal_bytes: int = 0
    connections: int = 0

    def __enter__(self) -> "Watch":
        self._ended = threading.Event()
        self._before = self._counters()
        self._thread = threading.Thread(target=self._sample)
        if self.sample:
            self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        if self.sample:
            self._thread.join()
        spent = [
            after - before for after, before in zip(self._counters(), self._before, strict=True)
        ]
        self.cpu_s, self.wal_bytes = spent[0], int(spent[1])
        self.rows_read, self.rows_written, self.rows_hot = (int(count) for count in spent[2:])

    def mostly(self, count: int = 4) -> str:
        """Return what its busy connections were seen at most, in shares of all that was seen."""
        seen = {what: n for what, n in self.waits.items() if not what.startswith("lock ")}
        total = sum(seen.values()) or 1
        first = sorted(seen.items(), key=lambda item: -item[1])[:count]
        return ", ".join(f"{what} {100 * n / total:.0f} %" for what, n in first)

    def _counters(self) -> tuple[float, ...]:
        cpu_s = busy_s(self.server.pid)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
            wal = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
            rows = connection.execute(_ROWS).fetchone()
        assert wal is not None
        assert rows is not None
        return (cpu_s, float(wal[0]), *(float(count or 0) for count in rows))

    def _sample(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self._ended.wait(_SAMPLE_S):
                seen = [row[0] for row in connection.execute(_ACTIVITY)]
                self.waits.update(seen)
                self.waits.update(row[0] for row in connection.execute(_LOCKS))
                self.looks += 1
                if self.looks % 10 == 1:
                    self.connections = max(self.connections, _connections(connection))


def _connections(connection: psycopg.Connection) -> int:
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    row = connection.execute(count).fetchone()
    # The watch has one of its own.
    return int(row[0]) - 1 if row else 0


def busy_s(pid: int) -> float:
    """Return the seconds of a core that a process took, with those it started and has left."""
    first = psutil.Process(pid)
    times = first.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in first.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return float(total)
