"""Submit tasks, ask how they are doing, cancel them."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request

from hidream_server.api.following import FollowingDep
from hidream_server.api.schemas import (
    BatchRequest,
    ErrorAnswer,
    GenerationRequest,
    StatusAnswer,
    SubmitAnswer,
)
from hidream_server.api.services import ServicesDep, base_url
from hidream_server.api.submission import accept
from hidream_server.errors import TaskEndedError
from hidream_server.task import TaskState

router = APIRouter(tags=["tasks"])

_OVERLOADED: dict[int | str, dict[str, Any]] = {429: {"model": ErrorAnswer}}

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Your own name for this request, up to 255 printable ASCII characters. Sent"
        " again with the same body it is answered with the same tasks, for as long as they are"
        " known; with another body it is refused.",
        pattern="^[!-~]([ -~]{0,253}[!-~])?$",
    ),
]


@router.post("/submit", responses=_OVERLOADED)
def submit(
    body: GenerationRequest,
    request: Request,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> SubmitAnswer:
    """Accept a task; it is kept once this answers.

    Sent again with the same Idempotency-Key or task_id it answers with the same task.
    """
    return accept(services, [body], _client(request), idempotency_key)[0]


@router.post("/batch_submit", responses=_OVERLOADED)
def batch_submit(
    body: BatchRequest,
    request: Request,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> list[SubmitAnswer]:
    """Accept several tasks, all or none."""
    return accept(services, body.requests, _client(request), idempotency_key, batch=True)


@router.get("/status/{task_id}")
async def status(
    task_id: str, request: Request, services: ServicesDep, following: FollowingDep
) -> StatusAnswer:
    """Say how a task is doing, and where its pictures are."""
    return StatusAnswer.of(await following.look(task_id), base_url(request, services.settings))


@router.post("/tasks/{task_id}/cancel")
@router.delete("/tasks/{task_id}")
async def cancel(
    task_id: str, request: Request, services: ServicesDep, following: FollowingDep
) -> StatusAnswer:
    """Cancel a task: a queued one at once, a running one before its next step.

    Doing so again changes nothing; a task that has completed or failed stays what it is.
    """
    await asyncio.to_thread(services.queue.cancel, task_id)
    found = await following.look(task_id)
    if found.task.state is not TaskState.CANCELLED:
        raise TaskEndedError(
            f"Task {task_id} is {found.task.state}; it can no longer be cancelled."
        )
    return StatusAnswer.of(found, base_url(request, services.settings))


def _client(request: Request) -> str:
    """Return whom a task belongs to: until there are keys, an address."""
    return request.client.host if request.client else ""
