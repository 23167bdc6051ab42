"""The task table: statements that move tasks or read the queue, and nothing of why one is made.

Each method is one transaction. Writes are fenced: a statement about a running task names the
attempt and changes nothing when a newer attempt holds it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, Update, bindparam, func, insert, select, update

from hidream_server.errors import RequestReusedError
from hidream_server.store.backlog import Backlog
from hidream_server.store.database import Database
from hidream_server.store.rows import to_row, to_task
from hidream_server.store.tables import tasks
from hidream_server.task import Task, TaskState, is_task_id, sources

#: (task id, attempt): who may write about a running task.
Claim = tuple[str, int]

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


class TaskStore:
    """Tasks in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(
        self,
        new: Sequence[Task],
        key: str | None = None,
        check: Callable[[Backlog], object] = lambda _backlog: None,
    ) -> list[Task]:
        """Add one client's tasks, all or none; they are on the disk when this returns.

        Returns them, or those that an earlier insertion of the same made, known by their ids or by
        `key`, the client's own name for its request; raises RequestReusedError where that was
        another. What `check` raises of what is there already prevents the insertion.
        """
        if not new:
            return []
        rows = [to_row(task, key, index) for index, task in enumerate(new)]
        with self._database.write(exclusive=True) as connection:
            if earlier := _earlier(connection, new, key):
                return earlier
            check(Backlog(connection, new[0].client, new[0].created_at))
            connection.execute(insert(tasks), rows)
        return list(new)

    def earlier(self, new: Sequence[Task], key: str | None) -> list[Task]:
        """Return what an earlier insertion of the same made, nothing if there was none."""
        with self._database.read() as connection:
            return _earlier(connection, new, key)

    def check(self, new: Sequence[Task], check: Callable[[Backlog], object]) -> None:
        """Let what would prevent an insertion be raised, without one."""
        with self._database.read() as connection:
            check(Backlog(connection, new[0].client, new[0].created_at))

    def get(self, task_id: str) -> Task | None:
        return next(iter(self.find([task_id])), None)

    def find(self, task_ids: Sequence[str]) -> list[Task]:
        """Return those of these tasks that there are."""
        known = [task_id for task_id in task_ids if is_task_id(task_id)]
        found: list[Task] = []
        with self._database.read() as connection:
            for start in range(0, len(known), _AT_ONCE):
                query = _BY_IDS, {"task_ids": known[start : start + _AT_ONCE]}
                found += map(to_task, connection.execute(*query))
        return found

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

    def claim(
        self,
        owner: str,
        count: int,
        now: float,
        lease_s: float,
        due_before: float = math.inf,
        most_running: float = math.inf,
    ) -> list[Task]:
        """Lease up to `count` queued tasks, each as a new attempt.

        First those of the clients that have the fewest running, then those due first. Tasks due
        later than `due_before` are left, unless their client has none running; so are those of
        clients that have `most_running`.
        """
        bounded = most_running < math.inf
        lease = {"owner": owner, "lease_until": now + lease_s, "started_at": now}
        rows: list[Row[Any]] = []
        with self._database.write(exclusive=bounded) as connection:
            # One by one where each changes how many its client may have more.
            for part in [1] * count if bounded else [count]:
                chosen = _next_in_line(part, due_before, most_running).cte("chosen")
                statement = (
                    _transition(TaskState.PROCESSING, **lease)
                    .where(tasks.c.sequence.in_(select(chosen.c.sequence)))
                    .values(attempt=tasks.c.attempt + 1, steps_done=0)
                    .returning(*tasks.c)
                )
                rows += connection.execute(statement).all()
        return [to_task(row) for row in sorted(rows, key=lambda row: (row.due, row.sequence))]

    def beat(self, steps_done: Mapping[Claim, int], lease_until: float) -> set[Claim]:
        """Renew leases and record progress; return those claims that are lost."""
        lost = set()
        with self._database.write() as connection:
            # In one order for all, so that no two of these wait for each other's rows.
            for claim, steps in sorted(steps_done.items()):
                renewal = {"steps_done": steps, "lease_until": lease_until}
                statement = _fenced(update(tasks), claim).values(renewal)
                if connection.execute(statement).rowcount == 0:
                    lost.add(claim)
        return lost

    def complete(
        self,
        claim: Claim,
        now: float,
        pictures: Sequence[str],
        timings: dict[str, float],
        picture_bytes: int = 0,
    ) -> bool:
        """Make this attempt's pictures the result; False if it was fenced off."""
        result = {
            "pictures": list(pictures),
            "picture_bytes": picture_bytes,
            "timings": timings,
        }
        statement = _transition(TaskState.COMPLETED, completed_at=now, **result)
        return self._write(_fenced(statement, claim)) == 1

    def fail(self, claim: Claim, now: float, error: str) -> bool:
        """Fail a running task with a reason; False if it was fenced off."""
        statement = _transition(TaskState.FAILED, completed_at=now, error=_storable(error))
        return self._write(_fenced(statement, claim)) == 1

    def cancel(self, task_id: str, now: float) -> bool:
        """Cancel a task that is queued or running; False if it has ended or never was."""
        statement = _transition(TaskState.CANCELLED, completed_at=now)
        return self._write(statement.where(tasks.c.id == task_id)) == 1

    def release(self, claim: Claim, crashed: bool) -> bool:
        """Hand a running task back to the queue; False if it was fenced off."""
        statement = _requeue().values(crashes=tasks.c.crashes + int(crashed))
        return self._write(_fenced(statement, claim)) == 1

    def reap(self, now: float) -> int:
        """Queue the running tasks whose lease has run out; return how many."""
        return self._write(_requeue().where(tasks.c.lease_until < now))

    def take_back(self, owner: str) -> int:
        """Queue the running tasks that `owner` holds; return how many."""
        return self._write(_requeue().where(tasks.c.owner == owner))

    def end_overdue(self, state: TaskState, now: float, older_s: float, error: str) -> list[str]:
        """Fail what has been queued, never started, or running for so long; return the ids."""
        since = tasks.c.started_at if state is TaskState.PROCESSING else tasks.c.created_at
        statement = (
            _transition(TaskState.FAILED, completed_at=now, error=error)
            .where(tasks.c.state == state, since < now - older_s)
            .where((tasks.c.state == TaskState.PROCESSING) | (tasks.c.attempt == 0))
            .returning(tasks.c.id)
        )
        with self._database.write() as connection:
            return list(connection.scalars(statement))

    def _write(self, statement: Update) -> int:
        with self._database.write() as connection:
            return connection.execute(statement).rowcount


def _transition(target: TaskState, **values: Any) -> Update:
    """Move tasks to a state, from only those states that may lead there."""
    values = {"state": target, "owner": None, "lease_until": None} | values
    return update(tasks).where(tasks.c.state.in_(sources(target))).values(values)


def _requeue() -> Update:
    return _transition(TaskState.QUEUED, started_at=None, steps_done=0)


def _fenced(statement: Update, claim: Claim) -> Update:
    task_id, attempt = claim
    return statement.where(
        tasks.c.id == task_id,
        tasks.c.attempt == attempt,
        tasks.c.state == TaskState.PROCESSING,
    )


def _next_in_line(count: int, due_before: float, most_running: float) -> Select[int]:
    """Select the tasks to be claimed next, and lock them where rows can be locked."""
    busy = (
        select(tasks.c.client, func.count().label("running"))
        .where(tasks.c.state == TaskState.PROCESSING)
        .group_by(tasks.c.client)
        .subquery()
    )
    running = func.coalesce(busy.c.running, 0)
    chosen = (
        select(tasks.c.sequence)
        .select_from(tasks.outerjoin(busy, tasks.c.client == busy.c.client))
        .where(tasks.c.state == TaskState.QUEUED)
        .where((tasks.c.due < due_before) | (running == 0))
        .order_by(running, tasks.c.due, tasks.c.sequence)
        .limit(count)
        .with_for_update(skip_locked=True, of=tasks)
    )
    return chosen if most_running == math.inf else chosen.where(running < most_running)


def _earlier(connection: Connection, new: Sequence[Task], key: str | None) -> list[Task]:
    """Find what came of the same request before; refuse a name that was given to another."""
    if key is not None:
        query = select(tasks).where(tasks.c.client == new[0].client, tasks.c.request_key == key)
        found = connection.execute(query.order_by(tasks.c.request_index)).all()
        if found and [row.digest for row in found] != [task.digest for task in new]:
            raise RequestReusedError(f"The Idempotency-Key {key!r} was sent with another request.")
        if found:
            return [to_task(row) for row in found]
    query = select(tasks).where(tasks.c.id.in_([task.id for task in new]))
    known = {row.id: to_task(row) for row in connection.execute(query)}
    for task in new:
        if known and (task.id not in known or known[task.id].digest != task.digest):
            raise RequestReusedError(f"The task_id {task.id} belongs to another request.")
    return [known[task.id] for task in new] if known else []


def _storable(text: str) -> str:
    """Leave out what one or the other database cannot hold in a text."""
    return text.replace("\0", "").encode(errors="replace").decode()
