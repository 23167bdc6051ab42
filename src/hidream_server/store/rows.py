"""A task as a row of the table, and back."""

from typing import Any

import msgspec
from sqlalchemy import Row

from hidream_server.task import Task, TaskParams, TaskState


def to_row(task: Task, key: str | None, index: int) -> dict[str, Any]:
    """Return the row of a new task, the `index`-th of the request that its client calls `key`."""
    return {
        "id": task.id,
        "state": task.state,
        "params": msgspec.to_builtins(task.params),
        "model": task.model,
        "client": task.client,
        "weight": task.weight,
        "max_running": task.max_running,
        "cost": task.params.cost,
        "created_at": task.created_at,
        "due": task.due,
        "digest": task.digest,
        "request_key": key,
        "request_index": index,
        "webhook_url": task.webhook_url,
    }


def to_task(row: Row[Any]) -> Task:
    return Task(
        id=row.id,
        state=TaskState(row.state),
        params=msgspec.convert(row.params, TaskParams),
        model=row.model,
        client=row.client,
        weight=row.weight,
        max_running=row.max_running,
        created_at=row.created_at,
        due=row.due,
        digest=row.digest,
        started_at=row.started_at,
        completed_at=row.completed_at,
        attempt=row.attempt,
        crashes=row.crashes,
        steps_done=row.steps_done,
        pictures=tuple(row.pictures),
        expired_at=row.expired_at,
        error=row.error,
        timings=dict(row.timings),
        reused_steps=row.reused_steps,
        webhook_url=row.webhook_url,
    )
