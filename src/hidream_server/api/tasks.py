"""Submit tasks, ask how they are doing, cancel them."""

from fastapi import APIRouter, Request

from hidream_server.api.limits import refuse_late
from hidream_server.api.schemas import (
    BatchRequest,
    GenerationRequest,
    StatusAnswer,
    SubmitAnswer,
    tenths,
)
from hidream_server.api.services import Services, ServicesDep, base_url
from hidream_server.errors import TaskEndedError, TaskNotFoundError
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.task import Task, TaskParams, TaskState

router = APIRouter(tags=["tasks"])


@router.post("/submit")
def submit(body: GenerationRequest, request: Request, services: ServicesDep) -> SubmitAnswer:
    """Accept a task; it is kept once this answers."""
    return _submit(services, services.limits.accept([body]), request)[0]


@router.post("/batch_submit")
def batch_submit(body: BatchRequest, request: Request, services: ServicesDep) -> list[SubmitAnswer]:
    """Accept several tasks, all or none."""
    accepted = services.limits.accept(body.requests, batch=True)
    return _submit(services, accepted, request, batch=True)


@router.get("/status/{task_id}")
def status(task_id: str, request: Request, services: ServicesDep) -> StatusAnswer:
    """Say how a task is doing, and where its pictures are."""
    return _status(services, _task(services, task_id), request)


@router.post("/tasks/{task_id}/cancel")
@router.delete("/tasks/{task_id}")
def cancel(task_id: str, request: Request, services: ServicesDep) -> StatusAnswer:
    """Cancel a task: a queued one at once, a running one before its next step.

    Doing so again changes nothing; a task that has completed or failed stays what it is.
    """
    services.queue.cancel(task_id)
    task = _task(services, task_id)
    if task.state is not TaskState.CANCELLED:
        raise TaskEndedError(f"Task {task_id} is {task.state}; it can no longer be cancelled.")
    return _status(services, task, request)


def _task(services: Services, task_id: str) -> Task:
    task = services.queue.get(task_id)
    if task is None:
        raise TaskNotFoundError(f"There is no task {task_id}.")
    return task


def _status(services: Services, task: Task, request: Request) -> StatusAnswer:
    return StatusAnswer.of(
        task,
        base_url(request, services.settings),
        services.queue.seconds_left(task),
        services.queue.position(task),
    )


def _submit(
    services: Services, requests: list[TaskParams], request: Request, batch: bool = False
) -> list[SubmitAnswer]:
    queue = services.queue
    # Until there are keys, an address is whom a task belongs to.
    drafts = queue.draft(requests, client=request.client.host if request.client else "")
    estimates = queue.estimate(drafts)
    refuse_late(drafts, estimates, queue.least_deadline, batch)
    queue.submit(drafts)
    return [_answer(queue, task, s) for task, s in zip(drafts, estimates, strict=True)]


def _answer(queue: TaskQueue, task: Task, estimate_s: float) -> SubmitAnswer:
    return SubmitAnswer(
        task_id=task.id,
        requestId=task.id,
        status=task.state,
        estimated_time=tenths(estimate_s),
        queue_position=queue.position(task) or 0,
        message=f"Accepted; follow it at /status/{task.id}.",
    )
