"""Statements that move tasks, as parts to be put together; nothing here is executed."""

from typing import Any

from sqlalchemy import Select, Update, func, select, true, update

from hidream_server.store.tables import tasks
from hidream_server.task import TaskState, sources

#: (task id, attempt): who may write about a running task.
Claim = tuple[str, int]


def transition(target: TaskState, **values: Any) -> Update:
    """Move tasks to a state, from only those states that may lead there."""
    values = {"state": target, "owner": None, "lease_until": None} | values
    return update(tasks).where(tasks.c.state.in_(sources(target))).values(values)


def requeue() -> Update:
    return transition(TaskState.QUEUED, started_at=None, steps_done=0)


def fenced(statement: Update, claim: Claim) -> Update:
    task_id, attempt = claim
    return statement.where(
        tasks.c.id == task_id,
        tasks.c.attempt == attempt,
        tasks.c.state == TaskState.PROCESSING,
    )


def next_in_line(count: int, due_before: float, model: str | None) -> Select[int]:
    """Select the tasks to be claimed next, and lock them where rows can be locked.

    Of one model, if it is named, and of none in particular.
    """
    fitting = true() if model is None else tasks.c.model.in_(("", model))
    busy = (
        select(tasks.c.client, func.count().label("running"))
        .where(tasks.c.state == TaskState.PROCESSING)
        .group_by(tasks.c.client)
        .subquery()
    )
    running = func.coalesce(busy.c.running, 0)
    return (
        select(tasks.c.sequence)
        .select_from(tasks.outerjoin(busy, tasks.c.client == busy.c.client))
        .where(tasks.c.state == TaskState.QUEUED, fitting)
        .where((tasks.c.due < due_before) | (running == 0))
        .where((tasks.c.max_running == 0) | (running < tasks.c.max_running))
        .order_by(running / tasks.c.weight, tasks.c.due, tasks.c.sequence)
        .limit(count)
        .with_for_update(skip_locked=True, of=tasks)
    )
