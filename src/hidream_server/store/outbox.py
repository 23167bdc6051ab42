"""The outbox: ends of tasks that are to be told, written in the transactions that end them.

Knows nothing of how a message is sent, nor of when it is tried again.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Delete, Row, Update, delete, insert, select, update

from hidream_server.store.database import Database
from hidream_server.store.rows import to_task
from hidream_server.store.tables import deliveries
from hidream_server.task import Task, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message on its way to one receiver."""

    #: The same at every try.
    id: str
    task_id: str
    client: str
    url: str
    #: How the task ended.
    what: TaskState
    #: The task as it was then, its pictures by their names.
    facts: Mapping[str, Any]
    #: Seconds since the epoch, UTC.
    created_at: float
    #: So many tries have failed.
    failures: int


def announce(connection: Connection, moved: Iterable[Row[Any]], now: float) -> None:
    """Put into the outbox those of these rows of tasks that have ended and tell somebody."""
    told = [row for row in moved if row.webhook_url is not None]
    ended = [row for row in told if not TaskState(row.state).is_open]
    if ended:
        connection.execute(insert(deliveries), [_new(row, now) for row in ended])


class Outbox:
    """Messages that have not been delivered."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, now: float, lease_s: float, without: Collection[str] = ()) -> Delivery | None:
        """Take what has been due for longest, None if nothing is; not of these clients.

        Nobody else is given it within `lease_s`, and everybody after that, unless it is done.
        """
        due = (
            select(deliveries.c.id)
            .where(deliveries.c.done_at.is_(None), deliveries.c.next_try_at <= now)
            .where(deliveries.c.client.not_in(without))
            .order_by(deliveries.c.next_try_at)
            .limit(1)
        )
        with self._database.read() as connection:
            # Mostly there is nothing; to find that out keeps no writer waiting.
            if connection.scalar(due) is None:
                return None
        chosen = due.with_for_update(skip_locked=True).cte("chosen")
        statement = update(deliveries).where(deliveries.c.id.in_(select(chosen.c.id)))
        statement = statement.values(next_try_at=now + lease_s)
        with self._database.write() as connection:
            row = connection.execute(statement.returning(*deliveries.c)).first()
        return None if row is None else _to_delivery(row)

    def postpone(self, delivery: Delivery, until: float, error: str) -> None:
        """Take note of a failed try, after which there is another."""
        # Who was so slow that others tried meanwhile has no say in when it is next.
        statement = _open(delivery).where(deliveries.c.failures == delivery.failures)
        values = {"next_try_at": until, "failures": delivery.failures + 1, "last_error": error}
        self._write(statement.values(values))

    def done(self, delivery: Delivery, now: float, error: str | None = None) -> None:
        """Take note that it was delivered; or given up, for what the last try failed of."""
        failures = delivery.failures + (error is not None)
        values = {"done_at": now, "failures": failures, "last_error": error}
        self._write(_open(delivery).values(values))

    def forget(self, before: float) -> int:
        """Delete what was delivered or given up before a time; say how much."""
        return self._write(delete(deliveries).where(deliveries.c.done_at < before))

    def _write(self, statement: Update | Delete) -> int:
        with self._database.write() as connection:
            return connection.execute(statement).rowcount


def _open(delivery: Delivery) -> Update:
    return update(deliveries).where(deliveries.c.id == delivery.id, deliveries.c.done_at.is_(None))


def _new(row: Row[Any], now: float) -> dict[str, Any]:
    return {
        # No full stop: the signature is over texts that are joined by them.
        "id": f"msg_{uuid.uuid4().hex}",
        "task_id": row.id,
        "client": row.client,
        "url": row.webhook_url,
        "what": row.state,
        "facts": msgspec.to_builtins(_facts(to_task(row))),
        "created_at": now,
        "failures": 0,
        "next_try_at": now,
    }


def _facts(task: Task) -> dict[str, Any]:
    """Return what a receiver is told, under the names that a status has for it."""
    return {
        "task_id": task.id,
        "status": task.state,
        "error": task.error,
        "seeds": task.params.seeds,
        "pictures": task.pictures,
        "created_at": _utc(task.created_at),
        "started_at": None if task.started_at is None else _utc(task.started_at),
        "completed_at": None if task.completed_at is None else _utc(task.completed_at),
        "processing_time": task.processing_time,
        "attempt": task.attempt,
    }


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _to_delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        task_id=row.task_id,
        client=row.client,
        url=row.url,
        what=TaskState(row.what),
        facts=row.facts,
        created_at=row.created_at,
        failures=row.failures,
    )
