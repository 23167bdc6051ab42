"""What happened to tasks, in order: written in the transactions that make it happen.

Knows nothing of who follows it, or of why things happen.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from hidream_server.store.database import Database
from hidream_server.store.tables import history, tasks
from hidream_server.task import OPEN, Task

#: No entry has a higher number.
MAX_NUMBER = 2**63 - 1


class Happened(StrEnum):
    """What may happen to a task."""

    QUEUED = "queued"
    STARTED = "started"
    STEP = "step"
    PREVIEW = "preview"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"

    @property
    def is_end(self) -> bool:
        """Nothing but its deletion happens to a task after this."""
        return self in (
            Happened.COMPLETED,
            Happened.FAILED,
            Happened.CANCELLED,
            Happened.DELETED,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened. Entries are numbered in the order in which they can be read."""

    number: int
    task_id: str
    client: str
    what: Happened
    #: Seconds since the epoch, UTC.
    at: float
    #: More about it: an attempt, a step of how many, a reason.
    about: Mapping[str, Any]


def write(
    connection: Connection,
    whose: Iterable[Task | Row[Any]],
    what: Happened,
    at: float,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write down what happens to tasks."""
    write_each(connection, [(one, what, about or {}) for one in whose], at)


def write_each(
    connection: Connection,
    entries: Sequence[tuple[Task | Row[Any], Happened, Mapping[str, Any]]],
    at: float,
) -> None:
    """Write down several things, in this order."""
    values = [
        {"task_id": one.id, "client": one.client, "what": what, "at": at, "about": about}
        for one, what, about in entries
    ]
    if values:
        connection.execute(insert(history), values)


def steps(done_before: int, done: int, of: int) -> list[tuple[Happened, Mapping[str, Any]]]:
    """Return what there is to write of steps that were done since the last time."""
    return [
        (Happened.STEP, {"step": step, "steps": of}) for step in range(done_before + 1, done + 1)
    ]


class History:
    """Reads the history, and tells who wants to know that there may be more of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Callable[[], object]] = []

    def on_more(self, listener: Callable[[], object]) -> None:
        """Call `listener`, from any thread, after something may have been written."""
        self._listeners.append(listener)

    def tell(self) -> None:
        for listener in self._listeners:
            listener()

    def last_number(self) -> int:
        """Return the number of the latest entry; none that is written from now on is lower."""
        with self._database.read(settled=True) as connection:
            return connection.scalar(select(func.max(history.c.number))) or 0

    def after(
        self,
        number: int,
        count: int,
        task_id: str | None = None,
        client: str | None = None,
        settled: bool = False,
    ) -> list[Entry]:
        """Return up to `count` entries after one, of a task, a client, or all.

        If `settled`, none is left out that would be before one of these; those of one task are
        always in order.
        """
        query = select(history).where(history.c.number > number)
        if task_id is not None:
            query = query.where(history.c.task_id == task_id)
        if client is not None:
            query = query.where(history.c.client == client)
        with self._database.read(settled) as connection:
            rows = connection.execute(query.order_by(history.c.number).limit(count))
            return [_to_entry(row) for row in rows]

    def forget(self, before: float) -> int:
        """Delete the history of tasks that ended before a time; say how much."""
        wanted = tasks.c.state.in_(OPEN) | (tasks.c.completed_at >= before)
        statement = delete(history).where(
            history.c.at < before, history.c.task_id.not_in(select(tasks.c.id).where(wanted))
        )
        with self._database.write() as connection:
            return connection.execute(statement).rowcount


def _to_entry(row: Row[Any]) -> Entry:
    return Entry(
        number=row.number,
        task_id=row.task_id,
        client=row.client,
        what=Happened(row.what),
        at=row.at,
        about=row.about,
    )
