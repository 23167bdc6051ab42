"""The task table: every statement on it, and nothing of why one is made.

Each method is one transaction. Writes are fenced: a statement about a running task names the
attempt and changes nothing when a newer attempt holds it.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, Update, func, insert, select, update
from sqlalchemy.exc import OperationalError

from hidream_server.errors import StoreUnavailableError
from hidream_server.store.tables import tasks
from hidream_server.task import Task, TaskParams, TaskState, sources

#: (task id, attempt): who may write about a running task.
Claim = tuple[str, int]


class TaskStore:
    """Tasks in SQLite; one process owns the file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # SQLite has one writer; queueing here is quicker and fairer than its busy back-off.
        self._writing = threading.Lock()

    def insert(self, new: Sequence[Task]) -> None:
        """Add tasks, all or none; they are on the disk when this returns."""
        if not new:
            return
        rows = [_to_row(task) for task in new]
        with self._write_transaction() as connection:
            connection.execute(insert(tasks), rows)

    def get(self, task_id: str) -> Task | None:
        with self._read_transaction() as connection:
            row = connection.execute(select(tasks).where(tasks.c.id == task_id)).first()
        return None if row is None else _to_task(row)

    def counts(self) -> dict[TaskState, int]:
        """Return how many tasks are in each state."""
        query = select(tasks.c.state, func.count()).group_by(tasks.c.state)
        with self._read_transaction() as connection:
            found = {TaskState(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in TaskState}

    def waiting_cost(self, due: float = math.inf) -> float:
        """Return the cost of all tasks that are queued or running and due until then."""
        waiting = tasks.c.state.in_([TaskState.QUEUED, TaskState.PROCESSING]) & (tasks.c.due <= due)
        query = select(func.coalesce(func.sum(tasks.c.cost), 0.0)).where(waiting)
        with self._read_transaction() as connection:
            return float(connection.scalar(query) or 0.0)

    def waiting(self, count: int) -> list[Task]:
        """Return the tasks that are running or queued, up to `count` of each, those due first."""
        with self._read_transaction() as connection:
            return [
                _to_task(row)
                for state in (TaskState.PROCESSING, TaskState.QUEUED)
                for row in connection.execute(
                    select(tasks)
                    .where(tasks.c.state == state)
                    .order_by(tasks.c.due, tasks.c.sequence)
                    .limit(count)
                )
            ]

    def queued_before(self, task_id: str) -> int:
        """Return how many queued tasks are before a task in the order of the queue."""
        this = tasks.alias()
        earlier = (tasks.c.due < this.c.due) | (
            (tasks.c.due == this.c.due) & (tasks.c.sequence < this.c.sequence)
        )
        query = select(func.count(tasks.c.sequence)).where(
            this.c.id == task_id, tasks.c.state == TaskState.QUEUED, earlier
        )
        with self._read_transaction() as connection:
            return int(connection.scalar(query) or 0)

    def claim(
        self, owner: str, count: int, now: float, lease_s: float, due_before: float = math.inf
    ) -> list[Task]:
        """Lease up to `count` queued tasks, each as a new attempt.

        First those of the clients that have the fewest running, then those due first. Tasks due
        later than `due_before` are left, unless their client has none running.
        """
        other = tasks.alias()
        running = (
            select(func.count())
            .where(other.c.state == TaskState.PROCESSING, other.c.client == tasks.c.client)
            .scalar_subquery()
        )
        first = (
            select(tasks.c.sequence)
            .where(tasks.c.state == TaskState.QUEUED)
            .where((tasks.c.due < due_before) | (running == 0))
            .order_by(running, tasks.c.due, tasks.c.sequence)
            .limit(count)
            .with_for_update(skip_locked=True)
        )
        lease = {"owner": owner, "lease_until": now + lease_s, "started_at": now}
        statement = (
            _transition(TaskState.PROCESSING, **lease)
            .where(tasks.c.sequence.in_(first))
            .values(attempt=tasks.c.attempt + 1, steps_done=0)
            .returning(*tasks.c)
        )
        with self._write_transaction() as connection:
            rows = connection.execute(statement).all()
        return [_to_task(row) for row in sorted(rows, key=lambda row: (row.due, row.sequence))]

    def beat(self, claim: Claim, steps_done: int, lease_until: float) -> bool:
        """Renew a lease and record progress; False if the lease is lost."""
        statement = _fenced(update(tasks), claim).where(tasks.c.state == TaskState.PROCESSING)
        return self._write(statement.values(steps_done=steps_done, lease_until=lease_until)) == 1

    def complete(
        self, claim: Claim, now: float, pictures: Sequence[str], timings: dict[str, float]
    ) -> bool:
        """Make this attempt's pictures the result; False if it was fenced off."""
        statement = _transition(
            TaskState.COMPLETED, completed_at=now, pictures=list(pictures), timings=timings
        )
        return self._write(_fenced(statement, claim)) == 1

    def fail(self, claim: Claim, now: float, error: str) -> bool:
        """Fail a running task with a reason; False if it was fenced off."""
        statement = _transition(TaskState.FAILED, completed_at=now, error=error)
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

    @contextmanager
    def _read_transaction(self) -> Iterator[Connection]:
        with _translated_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write_transaction(self) -> Iterator[Connection]:
        with _translated_errors(), self._writing, self._engine.begin() as connection:
            yield connection

    def _write(self, statement: Update) -> int:
        with self._write_transaction() as connection:
            return connection.execute(statement).rowcount


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Let those above know trouble with the database without knowing SQLAlchemy."""
    try:
        yield
    except OperationalError as error:
        raise StoreUnavailableError(f"The task database does not answer: {error.orig}.") from error


def _transition(target: TaskState, **values: Any) -> Update:
    """Move tasks to a state, from only those states that may lead there."""
    values = {"state": target, "owner": None, "lease_until": None} | values
    return update(tasks).where(tasks.c.state.in_(sources(target))).values(values)


def _requeue() -> Update:
    return _transition(TaskState.QUEUED, started_at=None, steps_done=0)


def _fenced(statement: Update, claim: Claim) -> Update:
    task_id, attempt = claim
    return statement.where(tasks.c.id == task_id, tasks.c.attempt == attempt)


def _to_row(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "state": task.state,
        "params": msgspec.to_builtins(task.params),
        "client": task.client,
        "cost": task.params.cost,
        "created_at": task.created_at,
        "due": task.due,
    }


def _to_task(row: Row[Any]) -> Task:
    return Task(
        id=row.id,
        state=TaskState(row.state),
        params=msgspec.convert(row.params, TaskParams),
        client=row.client,
        created_at=row.created_at,
        due=row.due,
        started_at=row.started_at,
        completed_at=row.completed_at,
        attempt=row.attempt,
        crashes=row.crashes,
        steps_done=row.steps_done,
        pictures=tuple(row.pictures),
        error=row.error,
        timings=dict(row.timings),
    )
