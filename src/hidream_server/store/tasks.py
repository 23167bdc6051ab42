"""The task table: statements that add and move tasks, and nothing of why one is made.

Each method is one transaction, in which what happens is also written into the history, and an end
that is to be told into the outbox. Writes are fenced: a statement about a running task names the
attempt and changes nothing when a newer attempt holds it.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, Update, delete, insert, select, update

from hidream_server.errors import RequestReusedError
from hidream_server.keys import is_key_id
from hidream_server.store.backlog import Backlog
from hidream_server.store.database import Along, Database
from hidream_server.store.hints import MOVED, QUEUED, hint
from hidream_server.store.history import Happened, History, steps, write, write_each
from hidream_server.store.outbox import announce
from hidream_server.store.reading import TaskReader, find_tasks
from hidream_server.store.rows import to_row, to_task
from hidream_server.store.statements import Claim, fenced, next_in_line, requeue, transition
from hidream_server.store.tables import tasks
from hidream_server.task import OPEN, Task, TaskState


class TaskStore(TaskReader):
    """Tasks in a database, and what happens to them."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.history = History(database)

    def insert(
        self,
        new: Sequence[Task],
        key: str | None = None,
        check: Callable[[Backlog], object] = lambda _backlog: None,
        along: Along = lambda _connection: None,
    ) -> list[Task]:
        """Add one client's tasks, all or none; they are on the disk when this returns.

        Returns them, or those that an earlier insertion of the same made, known by their ids or by
        `key`, the client's own name for its request; raises RequestReusedError where that was
        another. What `check` raises of what is there already prevents the insertion; `along` is
        done in the same transaction.
        """
        if not new:
            return []
        rows = [to_row(task, key, index) for index, task in enumerate(new)]
        with self._writing(exclusive=True) as connection:
            if earlier := _earlier(connection, new, key):
                return earlier
            check(Backlog(connection, new[0].client, new[0].created_at))
            connection.execute(insert(tasks), rows)
            hint(connection, QUEUED)
            queued = [(task, Happened.QUEUED, {"images": task.params.num_images}) for task in new]
            write_each(connection, queued, new[0].created_at)
            along(connection)
        return list(new)

    def earlier(self, new: Sequence[Task], key: str | None) -> list[Task]:
        """Return what an earlier insertion of the same made, nothing if there was none."""
        with self._database.read() as connection:
            return _earlier(connection, new, key)

    def check(self, new: Sequence[Task], check: Callable[[Backlog], object]) -> None:
        """Let what would prevent an insertion be raised, without one."""
        with self._database.read() as connection:
            check(Backlog(connection, new[0].client, new[0].created_at))

    def claim(
        self,
        owner: str,
        count: int,
        now: float,
        lease_s: float,
        due_before: float = math.inf,
        model: str | None = None,
    ) -> list[Task]:
        """Lease up to `count` queued tasks, each as a new attempt; if `model`, of that alone.

        First those of the clients that have the fewest running for their weight, then those due
        first. Tasks due later than `due_before` are left, unless their client has none running; so
        are those of clients that have as many running as they may.
        """
        bounded = self._is_running_bounded()
        lease = {"owner": owner, "lease_until": now + lease_s, "started_at": now}
        rows: list[Row[Any]] = []
        with self._writing(exclusive=bounded) as connection:
            # One by one where each changes how many its client may have more.
            for part in [1] * count if bounded else [count]:
                chosen = next_in_line(part, due_before, model).cte("chosen")
                statement = (
                    transition(TaskState.PROCESSING, **lease)
                    .where(tasks.c.sequence.in_(select(chosen.c.sequence)))
                    .values(attempt=tasks.c.attempt + 1, steps_done=0)
                    .returning(*tasks.c)
                )
                rows += connection.execute(statement).all()
            started = [(row, Happened.STARTED, {"attempt": row.attempt}) for row in rows]
            write_each(connection, started, now)
            if rows:
                hint(connection, MOVED)
        return [to_task(row) for row in sorted(rows, key=lambda row: (row.due, row.sequence))]

    def _is_running_bounded(self) -> bool:
        """Tell whether a client with queued tasks may have only so many running."""
        query = select(tasks.c.sequence).where(
            tasks.c.state == TaskState.QUEUED, tasks.c.max_running > 0
        )
        with self._database.read() as connection:
            return connection.scalar(query.limit(1)) is not None

    def beat(
        self,
        steps_done: Mapping[Claim, int],
        now: float,
        lease_s: float,
        previews: Sequence[tuple[Claim, int]] = (),
    ) -> set[Claim]:
        """Renew leases, record progress and new previews; return those claims that are lost."""
        ids = [task_id for task_id, _ in steps_done]
        # In one order for all, so that no two of these wait for each other's rows.
        query = select(tasks).where(tasks.c.id.in_(ids), tasks.c.state == TaskState.PROCESSING)
        query = query.order_by(tasks.c.id).with_for_update()
        with self._writing() as connection:
            held = {(row.id, row.attempt): row for row in connection.execute(query)}
            kept = [claim for claim in steps_done if claim in held]
            for claim in kept:
                renewal = {"steps_done": steps_done[claim], "lease_until": now + lease_s}
                connection.execute(fenced(update(tasks), claim).values(renewal))
            news = [
                (held[claim], *step)
                for claim in kept
                for step in _steps(held[claim], steps_done[claim])
            ]
            news += [
                (held[claim], Happened.PREVIEW, {"image_index": index})
                for claim, index in previews
                if claim in held
            ]
            write_each(connection, news, now)
        return steps_done.keys() - held.keys()

    def complete(
        self,
        claim: Claim,
        now: float,
        pictures: Sequence[str],
        timings: dict[str, float],
        picture_bytes: int = 0,
        reused_steps: int | None = None,
    ) -> bool:
        """Make this attempt's pictures the result; False if it was fenced off."""
        result = {
            "pictures": list(pictures),
            "picture_bytes": picture_bytes,
            "timings": timings,
            "reused_steps": reused_steps,
        }
        statement = transition(TaskState.COMPLETED, completed_at=now, **result)
        with self._writing() as connection:
            rows = connection.execute(fenced(statement, claim).returning(*tasks.c)).all()
            for row in rows:
                # Those since the last beat were done, too.
                total = to_task(row).params.total_steps
                news = [*_steps(row, total), (Happened.COMPLETED, {"pictures": len(pictures)})]
                write_each(connection, [(row, *new) for new in news], now)
            announce(connection, rows, now)
            hint(connection, MOVED)
        return len(rows) == 1

    def fail(self, claim: Claim, now: float, error: str) -> bool:
        """Fail a running task with a reason; False if it was fenced off."""
        error = _storable(error)
        statement = fenced(transition(TaskState.FAILED, completed_at=now, error=error), claim)
        return len(self._move(statement, Happened.FAILED, now, error=error)) == 1

    def cancel(self, task_id: str, now: float) -> bool:
        """Cancel a task that is queued or running; False if it has ended or never was."""
        statement = transition(TaskState.CANCELLED, completed_at=now).where(tasks.c.id == task_id)
        return len(self._move(statement, Happened.CANCELLED, now)) == 1

    def cancel_request(self, client: str, key: str, now: float, along: Along) -> list[str]:
        """Cancel what is queued or running of a request, and do `along` with it; return the ids.

        Where nothing is, nothing is done.
        """
        statement = transition(TaskState.CANCELLED, completed_at=now).where(
            tasks.c.client == client, tasks.c.request_key == key
        )
        return self._move(statement, Happened.CANCELLED, now, along)

    def release(self, claim: Claim, now: float, crashed: bool, reason: str) -> bool:
        """Hand a running task back to the queue; False if it was fenced off."""
        statement = fenced(requeue().values(crashes=tasks.c.crashes + int(crashed)), claim)
        reason = _storable(reason)
        return len(self._move(statement, Happened.QUEUED, now, reason=reason)) == 1

    def reap(self, now: float) -> int:
        """Queue the running tasks whose lease has run out; return how many."""
        statement = requeue().where(tasks.c.lease_until < now)
        reason = "Nobody renewed its lease."
        return len(self._move(statement, Happened.QUEUED, now, reason=reason))

    def take_back(self, owner: str, now: float) -> int:
        """Queue the running tasks that `owner` holds; return how many."""
        statement = requeue().where(tasks.c.owner == owner)
        return len(self._move(statement, Happened.QUEUED, now, reason="The server was restarted."))

    def end_overdue(self, state: TaskState, now: float, older_s: float, error: str) -> list[str]:
        """Fail what has been queued, never started, or running for so long; return the ids."""
        since = tasks.c.started_at if state is TaskState.PROCESSING else tasks.c.created_at
        statement = (
            transition(TaskState.FAILED, completed_at=now, error=error)
            .where(tasks.c.state == state, since < now - older_s)
            .where((tasks.c.state == TaskState.PROCESSING) | (tasks.c.attempt == 0))
        )
        return self._move(statement, Happened.FAILED, now, error=error)

    def delete(self, task_id: str, now: float) -> Task | None:
        """Delete a task that has ended; return it as it was, None if there is none."""
        is_open = tasks.c.state.in_(OPEN)
        statement = delete(tasks).where(tasks.c.id == task_id, ~is_open).returning(*tasks.c)
        with self._writing() as connection:
            rows = connection.execute(statement).all()
            write(connection, rows, Happened.DELETED, now)
        return to_task(rows[0]) if rows else None

    def _move(
        self,
        statement: Update,
        what: Happened,
        now: float,
        along: Along = lambda _connection: None,
        **about: Any,
    ) -> list[str]:
        """Move tasks and write it down, and do `along` if there are any; return their ids."""
        with self._writing() as connection:
            rows = connection.execute(statement.returning(*tasks.c)).all()
            write(connection, rows, what, now, about)
            announce(connection, rows, now)
            if rows:
                # Whoever works on a task that has ended learns which it is.
                hint(connection, *([row.id for row in rows] if what.is_end else [QUEUED]))
                along(connection)
        return [row.id for row in rows]

    @contextmanager
    def _writing(self, exclusive: bool = False) -> Iterator[Connection]:
        """Begin a transaction; those who follow the history hear of it after its commit."""
        with self._database.write(exclusive) as connection:
            yield connection
        self.history.tell()


def _steps(row: Row[Any], done: int) -> list[tuple[Happened, Mapping[str, Any]]]:
    return steps(row.steps_done, done, to_task(row).params.total_steps)


def _earlier(connection: Connection, new: Sequence[Task], key: str | None) -> list[Task]:
    """Find what came of the same request before; refuse a name that was given to another."""
    if key is not None:
        query = select(tasks).where(tasks.c.client == new[0].client, tasks.c.request_key == key)
        found = connection.execute(query.order_by(tasks.c.request_index)).all()
        if found and [row.digest for row in found] != [task.digest for task in new]:
            raise RequestReusedError(f"The Idempotency-Key {key!r} was sent with another request.")
        if found:
            return [to_task(row) for row in found]
    known = {task.id: task for task in find_tasks(connection, [task.id for task in new])}
    for task in new:
        if known and not _is_repeated(task, known.get(task.id)):
            raise RequestReusedError(f"The task_id {task.id} belongs to another request.")
    return [known[task.id] for task in new] if known else []


def _is_repeated(new: Task, known: Task | None) -> bool:
    """Tell whether a task is one that was asked for before, by the same bearer of a key if any."""
    if known is None or known.digest != new.digest:
        return False
    # An address may change between two tries, a key does not.
    return known.client == new.client or not (is_key_id(known.client) or is_key_id(new.client))


def _storable(text: str) -> str:
    """Leave out what one or the other database cannot hold in a text."""
    return text.replace("\0", "").encode(errors="replace").decode()
