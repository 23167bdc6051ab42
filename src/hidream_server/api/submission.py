"""From requests to accepted tasks: known again, in time, within bounds, and answered.

What single fields may hold is the business of `limits`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from hidream_server.api.access import Caller
from hidream_server.api.schemas import GenerationRequest, SubmitAnswer, tenths
from hidream_server.api.services import Services
from hidream_server.errors import FieldProblem, InvalidRequestError, TaskNotRetryableError
from hidream_server.queue.bounds import Bounds
from hidream_server.queue.prospects import Prospects
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.database import Along
from hidream_server.task import Task, TaskParams, TaskState


def accept(
    services: Services,
    requests: Sequence[GenerationRequest],
    caller: Caller,
    key: str | None,
    batch: bool = False,
) -> list[SubmitAnswer]:
    """Accept tasks, all or none, or answer with those that the same request made before."""
    queue = services.queue
    if key is not None and (named := [r.task_id for r in requests if r.task_id is not None]):
        problem = FieldProblem(
            "task_id", named[0], "none beside an Idempotency-Key: one name will do"
        )
        raise InvalidRequestError([problem])
    drafts = _known_drafts(services, requests, caller, batch)
    has_name = key is not None or any(request.task_id is not None for request in requests)
    if has_name and (known := queue.earlier(drafts, key)):
        return [_answer(queue.prospects, task, "Accepted before") for task in known]
    tasks = _submit(queue, drafts, key, _bounds(services, caller), batch)
    return [_answer(queue.prospects, task, "Accepted") for task in tasks]


def accept_batch(
    services: Services,
    requests: Sequence[GenerationRequest],
    caller: Caller,
    key: str,
    most_requests: int,
    along: Along,
) -> None:
    """Accept the tasks of a batch that is new, all or none, and do `along` with it."""
    drafts = _known_drafts(services, requests, caller, batch=True, most_requests=most_requests)
    _submit(services.queue, drafts, key, _bounds(services, caller), batch=True, along=along)


def accept_again(services: Services, task: Task, caller: Caller, key: str | None) -> SubmitAnswer:
    """Accept a task once more that failed or was cancelled: a new one that asks for the same."""
    if task.state not in (TaskState.FAILED, TaskState.CANCELLED):
        raise TaskNotRetryableError(
            f"Task {task.id} is {task.state}; only one that failed or was cancelled can be tried"
            " again."
        )
    queue = services.queue
    [draft] = _drafts(services, [task.params], caller)
    digest = hashlib.sha256(f"again: {task.id}".encode()).hexdigest()
    # The receiver of another one's messages could not verify these.
    is_own = caller.key is None or caller.client == task.client
    draft = replace(draft, digest=digest, webhook_url=task.webhook_url if is_own else None)
    if key is not None and (known := queue.earlier([draft], key)):
        return _answer(queue.prospects, known[0], "Accepted before")
    [again] = _submit(queue, [draft], key, _bounds(services, caller))
    return _answer(queue.prospects, again, "Accepted")


def _known_drafts(
    services: Services,
    requests: Sequence[GenerationRequest],
    caller: Caller,
    batch: bool,
    most_requests: int | None = None,
) -> list[Task]:
    params = services.limits.accept(requests, batch, caller.key, most_requests)
    drafts = _drafts(services, params, caller)
    return [_as_asked(draft, request) for draft, request in zip(drafts, requests, strict=True)]


def _as_asked(draft: Task, request: GenerationRequest) -> Task:
    """Give a draft what its request is known by when it comes again, and who is told of its end."""
    # Without defaults: a field that is new in a later version makes no other request of this one.
    body = request.model_dump_json(exclude_defaults=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return replace(
        draft, id=request.task_id or draft.id, digest=digest, webhook_url=request.webhook_url
    )


def _bounds(services: Services, caller: Caller) -> Bounds:
    bounds = services.queue.bounds
    return bounds if caller.key is None else bounds.of_key(caller.key.limits)


def _drafts(services: Services, params: Sequence[TaskParams], caller: Caller) -> list[Task]:
    weight = 1.0 if caller.key is None else caller.key.limits.weight
    return services.queue.draft(
        params, caller.client, weight, _bounds(services, caller), services.model.name
    )


def _submit(
    queue: TaskQueue,
    drafts: list[Task],
    key: str | None,
    bounds: Bounds,
    batch: bool = False,
    along: Along = lambda _connection: None,
) -> list[Task]:
    # Before anything is forecast: to refuse must be cheap where there is too much already.
    queue.require_room(drafts, bounds)
    if any(task.params.deadline_s is not None for task in drafts):
        _refuse_late(drafts, queue.prospects, batch)
    return queue.submit(drafts, key, bounds, along)


def _refuse_late(drafts: Sequence[Task], prospects: Prospects, batch: bool) -> None:
    """Raise InvalidRequestError for tasks that cannot be done by their deadlines."""
    problems = [
        FieldProblem(
            f"requests.{index}.deadline_s" if batch else "deadline_s",
            task.params.deadline_s,
            f"at least {tenths(prospects.least_deadline(task))} as things are",
        )
        for index, (task, estimate) in enumerate(
            zip(drafts, prospects.estimate(drafts), strict=True)
        )
        if task.params.deadline_s is not None and estimate > task.params.deadline_s
    ]
    if problems:
        raise InvalidRequestError(problems)


def _answer(prospects: Prospects, task: Task, what: str) -> SubmitAnswer:
    return SubmitAnswer(
        task_id=task.id,
        requestId=task.id,
        status=task.state,
        estimated_time=tenths(prospects.seconds_left(task) or 0.0),
        queue_position=prospects.position(task) or 0,
        message=f"{what}; follow it at /status/{task.id}.",
    )
