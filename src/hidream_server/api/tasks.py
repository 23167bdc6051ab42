"""Submit tasks, ask how they are doing, cancel, repeat and delete them."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool

from hidream_server.api.access import CallerDep, FollowedDep
from hidream_server.api.schemas import (
    BatchRequest,
    ErrorAnswer,
    GenerationRequest,
    StatusAnswer,
    SubmitAnswer,
)
from hidream_server.api.services import LinksDep, ServicesDep
from hidream_server.api.submission import accept, accept_again
from hidream_server.errors import ResultsUnavailableError, TaskEndedError, TaskNotFoundError
from hidream_server.task import TaskState

router = APIRouter(tags=["tasks"])

_OVERLOADED: dict[int | str, dict[str, Any]] = {429: {"model": ErrorAnswer}}
#: Proxies end an answer for which they wait longer than this, in seconds.
_LONGEST_WAIT_S = 60

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
    caller: CallerDep,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> SubmitAnswer:
    """Accept a task; it is kept once this answers.

    Sent again with the same Idempotency-Key or task_id it answers with the same task.
    """
    return accept(services, [body], caller, idempotency_key)[0]


@router.post("/batch_submit", responses=_OVERLOADED)
def batch_submit(
    body: BatchRequest,
    caller: CallerDep,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> list[SubmitAnswer]:
    """Accept several tasks, all or none."""
    services.limits.require_webhook(body.webhook_url)
    return accept(services, body.each(), caller, idempotency_key, batch=True)


@router.get("/tasks/{task_id}")
@router.get("/status/{task_id}")
async def status(
    followed: FollowedDep,
    links: LinksDep,
    services: ServicesDep,
    wait: Annotated[
        float,
        Query(
            description="Seconds to wait for the task's end before this answers.",
            ge=0,
            le=_LONGEST_WAIT_S,
        ),
    ] = 0,
) -> StatusAnswer:
    """Say how a task is doing, and where its pictures are."""
    if wait and followed.task.state.is_open:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await services.feed.ended(followed.task.id)
        followed = await services.following.look(followed.task.id)
    return StatusAnswer.of(followed, links)


@router.post("/tasks/{task_id}/cancel")
async def cancel(followed: FollowedDep, links: LinksDep, services: ServicesDep) -> StatusAnswer:
    """Cancel a task: a queued one at once, a running one before its next step.

    Doing so again changes nothing; a task that has completed or failed stays what it is.
    """
    task_id = followed.task.id
    await run_in_threadpool(services.queue.cancel, task_id)
    followed = await services.following.look(task_id)
    if followed.task.state is not TaskState.CANCELLED:
        raise TaskEndedError(
            f"Task {task_id} is {followed.task.state}; it can no longer be cancelled."
        )
    return StatusAnswer.of(followed, links)


@router.post("/tasks/{task_id}/retry", responses=_OVERLOADED)
async def retry(
    followed: FollowedDep,
    caller: CallerDep,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> SubmitAnswer:
    """Ask once more for what a failed or cancelled task was to paint, as a new task."""
    return await run_in_threadpool(accept_again, services, followed.task, caller, idempotency_key)


@router.delete("/tasks/{task_id}", status_code=204, response_class=Response)
async def delete(followed: FollowedDep, services: ServicesDep) -> None:
    """Delete a task with its pictures; one that has not ended is cancelled first."""
    await run_in_threadpool(_delete, services, followed.task.id)


def _delete(services: ServicesDep, task_id: str) -> None:
    task = services.queue.delete(task_id)
    if task is None:
        raise TaskNotFoundError(f"There is no task {task_id}.")
    # What cannot be dropped now belongs to no task any more, and is swept later.
    with suppress(OSError, ResultsUnavailableError):
        for name in task.pictures:
            services.results.pictures.drop(name)
