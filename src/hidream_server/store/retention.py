"""Statements about tasks that have ended: whose pictures go, and which rows.

Knows nothing of files, nor of why one goes.
"""

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from hidream_server.store.database import Database
from hidream_server.store.rows import to_task
from hidream_server.store.tables import tasks
from hidream_server.task import Task, TaskState

#: So many rows are changed at once.
_AT_ONCE = 500

_ENDED = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)
_HAS_PICTURES = (tasks.c.state == TaskState.COMPLETED) & tasks.c.expired_at.is_(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """Which pictures are too many: those made before a time, the oldest beyond so many bytes."""

    made_before: float
    size_bytes: float


class EndedTasks:
    """What is kept of tasks after their end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def expire(self, excess: Excess, now: float) -> list[Task]:
        """Take note that pictures are gone from now on; return the tasks whose they were."""
        newest_first = (tasks.c.completed_at.desc(), tasks.c.sequence.desc())
        kept = (
            select(
                tasks.c.id,
                tasks.c.completed_at,
                func.sum(tasks.c.picture_bytes).over(order_by=newest_first).label("size_bytes"),
            )
            .where(_HAS_PICTURES)
            .subquery()
        )
        too_many = select(kept.c.id).where(
            (kept.c.completed_at < excess.made_before) | (kept.c.size_bytes > excess.size_bytes)
        )
        statement = (
            update(tasks)
            .where(_HAS_PICTURES, tasks.c.id.in_(too_many.limit(_AT_ONCE)))
            .values(expired_at=now)
            .returning(*tasks.c)
        )
        with self._database.write() as connection:
            return [to_task(row) for row in connection.execute(statement)]

    def forget(self, ended_before: float) -> int:
        """Delete the rows of tasks that ended before a time and have no pictures; say how many."""
        statement = delete(tasks).where(
            tasks.c.state.in_(_ENDED), tasks.c.completed_at < ended_before, ~_HAS_PICTURES
        )
        with self._database.write() as connection:
            return connection.execute(statement).rowcount
