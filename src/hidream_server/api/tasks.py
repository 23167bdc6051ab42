"""Submit tasks, ask how they are doing, cancel them."""

import math

from fastapi import APIRouter, Request

from hidream_server.api.schemas import BatchRequest, GenerationRequest, StatusAnswer, SubmitAnswer
from hidream_server.api.services import Services, ServicesDep, base_url
from hidream_server.errors import TaskEndedError, TaskNotFoundError
from hidream_server.task import Task, TaskParams, TaskState

router = APIRouter(tags=["tasks"])


@router.post("/submit")
def submit(body: GenerationRequest, services: ServicesDep) -> SubmitAnswer:
    """Accept a task; it is kept once this answers."""
    return _submit(services, services.limits.accept([body]))[0]


@router.post("/batch_submit")
def batch_submit(body: BatchRequest, services: ServicesDep) -> list[SubmitAnswer]:
    """Accept several tasks, all or none."""
    return _submit(services, services.limits.accept(body.requests, batch=True))


@router.get("/status/{task_id}")
def status(task_id: str, request: Request, services: ServicesDep) -> StatusAnswer:
    """Say how a task is doing, and where its pictures are."""
    return StatusAnswer.of(_task(services, task_id), base_url(request, services.settings))


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
    return StatusAnswer.of(task, base_url(request, services.settings))


def _task(services: Services, task_id: str) -> Task:
    task = services.queue.get(task_id)
    if task is None:
        raise TaskNotFoundError(f"There is no task {task_id}.")
    return task


def _submit(services: Services, requests: list[TaskParams]) -> list[SubmitAnswer]:
    estimates = services.queue.estimate(requests)
    accepted = services.queue.submit(requests)
    return [_answer(task, s) for task, s in zip(accepted, estimates, strict=True)]


def _answer(task: Task, estimate_s: float) -> SubmitAnswer:
    return SubmitAnswer(
        task_id=task.id,
        requestId=task.id,
        status=task.state,
        # Rounded up: nothing takes no time at all.
        estimated_time=math.ceil(10 * estimate_s) / 10,
        message=f"Accepted; follow it at /status/{task.id}.",
    )
