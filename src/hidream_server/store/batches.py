"""Batches that clients ask for by a file, and what has become of their tasks.

A batch has no state of its own but that it was cancelled: its tasks say how it is doing. They are
known by a request key that no client can choose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, case, delete, func, insert, literal, select, update

from hidream_server.store.database import Along, Database
from hidream_server.store.paging import Page, rows_of
from hidream_server.store.rows import to_task
from hidream_server.store.tables import batches, tasks
from hidream_server.task import OPEN, Task, TaskState

#: What request keys of batches begin with; an Idempotency-Key is ASCII.
_MARK = "§"

#: All but the lines, which may be large.
_ABOUT = select(*(column for column in batches.c if column is not batches.c.lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was asked for, but for the lines. Times are seconds since the epoch, UTC."""

    id: str
    client: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: float
    cancelled_at: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: How many lines, and tasks, it has.
    total: int = 0
    #: What was wrong with its lines: then it has none.
    errors: Sequence[Mapping[str, Any]] = ()

    @property
    def request_key(self) -> str:
        """What its tasks are known by."""
        return _MARK + self.id


class Line(NamedTuple):
    """One request of a batch."""

    #: Its client's name for it.
    custom_id: str
    body: Mapping[str, Any]


class Progress(NamedTuple):
    """How many of the tasks of a batch have come how far; those deleted since are in none."""

    open: int = 0
    completed: int = 0
    #: Of the completed those whose pictures were deleted.
    expired: int = 0
    #: When the last one ended.
    ended_at: float | None = None


class BatchStore:
    """Batches by their ids."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, batch: Batch, lines: Sequence[Line] = ()) -> None:
        """Keep a batch of which nothing comes."""
        with self._database.write() as connection:
            self.adding(batch, lines)(connection)

    def adding(self, batch: Batch, lines: Sequence[Line]) -> Along:
        """Return what keeps a batch in the transaction that keeps its tasks."""
        row = {name: getattr(batch, name) for name in batch.__slots__}
        row |= {
            "metadata": dict(batch.metadata),
            "errors": [dict(error) for error in batch.errors],
            "lines": [{"custom_id": line.custom_id, "body": dict(line.body)} for line in lines],
        }

        def add(connection: Connection) -> None:
            connection.execute(insert(batches), row)

        return add

    def cancelling(self, batch: Batch, now: float) -> Along:
        """Return what marks a batch in the transaction that cancels its tasks."""

        def mark(connection: Connection) -> None:
            statement = update(batches).where(batches.c.id == batch.id)
            connection.execute(statement.values(cancelled_at=now))

        return mark

    def find(self, batch_id: str) -> Batch | None:
        # What is no name of ours some databases cannot even be asked for.
        if not batch_id.isascii() or not batch_id.isprintable():
            return None
        with self._database.read() as connection:
            row = connection.execute(_ABOUT.where(batches.c.id == batch_id)).first()
        return None if row is None else _to_batch(row)

    def lines(self, batch: Batch) -> list[Line]:
        """Return the lines of a batch, in order."""
        query = select(batches.c.lines).where(batches.c.id == batch.id)
        with self._database.read() as connection:
            return [Line(**line) for line in connection.scalar(query) or ()]

    def page(self, page: Page) -> tuple[list[Batch], bool]:
        """Return a page of the batches, and whether more follow."""
        with self._database.read() as connection:
            rows, more = rows_of(connection, _ABOUT, batches, page)
        return [_to_batch(row) for row in rows], more

    def progress(self, found: Sequence[Batch]) -> dict[str, Progress]:
        """Return how far the tasks of each of these batches have come, by its id."""
        completed = tasks.c.state == TaskState.COMPLETED
        query = (
            select(
                tasks.c.request_key,
                func.sum(case((tasks.c.state.in_(OPEN), 1), else_=0)),
                func.sum(case((completed, 1), else_=0)),
                func.sum(case((completed & tasks.c.expired_at.is_not(None), 1), else_=0)),
                func.max(tasks.c.completed_at),
            )
            .where(tasks.c.client.in_({batch.client for batch in found}))
            .where(tasks.c.request_key.in_([batch.request_key for batch in found]))
            .group_by(tasks.c.request_key)
        )
        with self._database.read() as connection:
            known = {row[0]: Progress(*row[1:]) for row in connection.execute(query)}
        return {batch.id: known.get(batch.request_key, Progress()) for batch in found}

    def tasks(self, batch: Batch, first: int, count: int) -> dict[int, Task]:
        """Return the tasks of `count` lines from `first` on, by line; some may be deleted."""
        query = (
            select(tasks)
            .where(tasks.c.client == batch.client, tasks.c.request_key == batch.request_key)
            .where(tasks.c.request_index >= first, tasks.c.request_index < first + count)
            .order_by(tasks.c.request_index)
        )
        with self._database.read() as connection:
            return {row.request_index: to_task(row) for row in connection.execute(query)}

    def forget(self, before: float) -> int:
        """Delete the batches made before a time of whose tasks none is known; say how many."""
        known = select(tasks.c.id).where(
            tasks.c.client == batches.c.client,
            tasks.c.request_key == literal(_MARK).concat(batches.c.id),
        )
        statement = delete(batches).where(batches.c.created_at < before, ~known.exists())
        with self._database.write() as connection:
            return connection.execute(statement).rowcount


def _to_batch(row: Row[Any]) -> Batch:
    return Batch(**row._mapping)
