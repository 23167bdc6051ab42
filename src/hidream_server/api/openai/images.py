"""OpenAI's image routes: generate, at once or as a stream; edits, which this model has none of."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from fastapi.sse import ServerSentEvent

from hidream_server.api.access import Caller, CallerDep, StillAllowedDep
from hidream_server.api.errors import openai_body
from hidream_server.api.measuring import note_accepted
from hidream_server.api.openai.answers import Answers
from hidream_server.api.openai.models import require_served
from hidream_server.api.openai.schemas import ImageRequest
from hidream_server.api.openai.waiting import (
    ClientLeftError,
    completed,
    require_completed,
    unless_abandoned,
)
from hidream_server.api.services import LinksDep, Services, ServicesDep
from hidream_server.api.streaming import stream
from hidream_server.api.submission import accept
from hidream_server.api.tasks import IdempotencyKey
from hidream_server.errors import HiDreamError, NotSupportedError, PreviewNotFoundError
from hidream_server.store.history import Happened

router = APIRouter(prefix="/v1/images", tags=["openai"])

#: What is said to a client that is gone; nobody reads it.
_CLIENT_CLOSED = 499


@router.post("/generations", response_model=None)
async def generate(
    body: ImageRequest,
    request: Request,
    caller: CallerDep,
    links: LinksDep,
    services: ServicesDep,
    still_allowed: StillAllowedDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Paint, and answer with the images; with `stream`, with previews first.

    If the client leaves, its task is cancelled; not so with an Idempotency-Key, under which it may
    ask again for the same.
    """
    require_served(services, body.model)
    body.require_possible()
    task_id = await run_in_threadpool(_submit, services, body, caller, idempotency_key)
    note_accepted(request)
    answers = Answers(services, links, body)
    kept = idempotency_key is not None
    if body.stream:
        return stream(_events(services, answers, task_id, kept), still_allowed)
    try:
        async with unless_abandoned(services, task_id, kept):
            task = await completed(services, request, task_id)
    except ClientLeftError:
        return Response(status_code=_CLIENT_CLOSED)
    return JSONResponse(await answers.images(task))


@router.post("/edits")
@router.post("/variations")
async def edit() -> None:
    """Answer that the model cannot do this."""
    raise NotSupportedError("HiDream-I1 makes pictures from text; it cannot edit pictures.")


def _submit(services: Services, body: ImageRequest, caller: Caller, key: str | None) -> str:
    asked = body.task(services.model, services.settings.max_previews)
    return accept(services, [asked], caller, key)[0].task_id


async def _events(
    services: Services, answers: Answers, task_id: str, kept: bool
) -> AsyncGenerator[ServerSentEvent]:
    """Yield previews as they are made, the finished images, or what came instead."""
    try:
        async with (
            unless_abandoned(services, task_id, kept),
            aclosing(_pictures(services, answers, task_id)) as pictures,
        ):
            async for event in pictures:
                yield ServerSentEvent(event=event["type"], data=event)
    except HiDreamError as error:
        yield ServerSentEvent(event="error", data={"type": "error", **openai_body(error)})


async def _pictures(
    services: Services, answers: Answers, task_id: str
) -> AsyncGenerator[dict[str, Any]]:
    sent = 0
    async with aclosing(services.feed.to_the_end(task_id)) as entries:
        async for entry in entries:
            if entry.what is Happened.PREVIEW:
                task = (await services.following.look(task_id)).task
                try:
                    yield await answers.partial(task, entry.about["image_index"], sent)
                except PreviewNotFoundError:
                    continue
                sent += 1
    task = (await services.following.look(task_id)).task
    require_completed(task)
    for index in range(len(task.pictures)):
        yield await answers.completed(task, index)
