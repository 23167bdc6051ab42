"""What is asked of the task table; nothing here changes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from hidream_server.store.database import Database
from hidream_server.store.rows import to_task
from hidream_server.store.tables import tasks
from hidream_server.task import Task, TaskState, is_task_id

#: Made once: it is what clients that follow a task ask all the time.
_BY_IDS = select(tasks).where(tasks.c.id.in_(bindparam("task_ids", expanding=True)))
#: So many are asked for at once.
_AT_ONCE = 500


class InLine(NamedTuple):
    """A queued task: as much of it as its place in the queue takes."""

    id: str
    due: float
    cost: float
    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which tasks are asked for; None does not matter."""

    client: str | None = None
    state: TaskState | None = None
    #: Words of the prompt, whatever their case.
    prompt: str | None = None
    #: Seconds since the epoch.
    created_after: float | None = None
    created_before: float | None = None


def find_tasks(connection: Connection, task_ids: Sequence[str]) -> list[Task]:
    """Return those of these tasks that there are."""
    found: list[Task] = []
    for start in range(0, len(task_ids), _AT_ONCE):
        query = _BY_IDS, {"task_ids": task_ids[start : start + _AT_ONCE]}
        found += map(to_task, connection.execute(*query))
    return found


class TaskReader:
    """Answers from the tasks in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, task_id: str) -> Task | None:
        return next(iter(self.find([task_id])), None)

    def find(self, task_ids: Sequence[str]) -> list[Task]:
        """Return those of these tasks that there are."""
        with self._database.read() as connection:
            return find_tasks(connection, [id for id in task_ids if is_task_id(id)])

    def counts(self) -> dict[TaskState, int]:
        """Return how many tasks are in each state."""
        query = select(tasks.c.state, func.count()).group_by(tasks.c.state)
        with self._database.read() as connection:
            found = {TaskState(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in TaskState}

    def waiting(self, count: int) -> list[Task]:
        """Return the tasks that are running or queued, up to `count` of each, those due first."""
        with self._database.read() as connection:
            return [
                to_task(row)
                for state in (TaskState.PROCESSING, TaskState.QUEUED)
                for row in connection.execute(
                    select(tasks)
                    .where(tasks.c.state == state)
                    .order_by(tasks.c.due, tasks.c.sequence)
                    .limit(count)
                )
            ]

    def line(self) -> list[InLine]:
        """Return every queued task, in the order of the queue."""
        query = (
            select(tasks.c.id, tasks.c.due, tasks.c.cost, tasks.c.client)
            .where(tasks.c.state == TaskState.QUEUED)
            .order_by(tasks.c.due, tasks.c.sequence)
        )
        with self._database.read() as connection:
            return [InLine(*row) for row in connection.execute(query)]

    def page(self, wanted: Wanted, before: int | None, count: int) -> tuple[list[Task], int | None]:
        """Return up to `count` of the tasks, the latest first, and where the next page begins.

        `before` is what the page before this one returned; None of the last page.
        """
        query = select(tasks).order_by(tasks.c.sequence.desc()).limit(count + 1)
        if before is not None:
            query = query.where(tasks.c.sequence < before)
        if wanted.client is not None:
            query = query.where(tasks.c.client == wanted.client)
        if wanted.state is not None:
            query = query.where(tasks.c.state == wanted.state)
        if wanted.created_after is not None:
            query = query.where(tasks.c.created_at >= wanted.created_after)
        if wanted.created_before is not None:
            query = query.where(tasks.c.created_at < wanted.created_before)
        if wanted.prompt is not None:
            prompt = tasks.c.params["prompt"].as_string()
            query = query.where(prompt.icontains(wanted.prompt, autoescape=True))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        more = len(rows) > count
        return [to_task(row) for row in rows[:count]], rows[count - 1].sequence if more else None
