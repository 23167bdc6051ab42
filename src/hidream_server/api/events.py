"""What happens to tasks as server-sent events: of one task, or of all that the caller may see."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import ServerSentEvent

from hidream_server.api.access import CallerDep, FollowedDep, StillAllowedDep
from hidream_server.api.feed import Feed
from hidream_server.api.following import Followed, Following
from hidream_server.api.links import Links
from hidream_server.api.schemas import StatusAnswer, tenths
from hidream_server.api.services import LinksDep, Services, ServicesDep
from hidream_server.api.streaming import stream, with_silences
from hidream_server.errors import StoreUnavailableError, TaskNotFoundError
from hidream_server.store.history import MAX_NUMBER, Entry, Happened
from hidream_server.task import TaskState

router = APIRouter(tags=["events"])

#: Whether a queued task has come nearer is looked up so often, in seconds.
_POSITION_S = 2.0
#: A client may come again so soon after the server has stopped, in milliseconds.
_RETRY_MS = 2000

_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

LastEventId = Annotated[
    int | None,
    Header(
        description="The id of the last event you have; those after it are sent first.",
        ge=0,
        le=MAX_NUMBER,
    ),
]


@router.get("/tasks/{task_id}/events", response_class=StreamingResponse, responses=_STREAM)
async def task_events(
    followed: FollowedDep,
    links: LinksDep,
    services: ServicesDep,
    still_allowed: StillAllowedDep,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream what happens to a task, from its submission to its end.

    Events are queued, started, step, preview, completed, failed, cancelled and deleted; the stream
    ends after the last. A client that has seen the end is answered 204, and need not come again.
    """
    after, task = last_event_id or 0, followed.task
    if not task.state.is_open:
        past = await run_in_threadpool(services.queue.history.after, after, 1, task.id)
        if not past and last_event_id is not None:
            return Response(status_code=204)
    told = _Told(services, links)
    return stream(_of_task(told, followed, after), still_allowed)


@router.get("/events", response_class=StreamingResponse, responses=_STREAM)
async def all_events(
    caller: CallerDep,
    links: LinksDep,
    services: ServicesDep,
    still_allowed: StillAllowedDep,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Stream what happens to all tasks that you may see, from now on or from the last event on."""
    told = _Told(services, links)
    return stream(_of_all(told, last_event_id, caller.sees_only), still_allowed)


async def _of_all(
    told: "_Told", after: int | None, client: str | None
) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(told.feed.follow(after, client=client)) as entries:
        async for entry in entries:
            yield await told.event(entry)
    if told.feed.closed:
        yield _closing()


async def _of_task(
    told: "_Told", followed: Followed, after: int
) -> AsyncGenerator[ServerSentEvent]:
    """Tell a task's history, and how it comes nearer while it is queued."""
    task_id, place = followed.task.id, None
    if not followed.task.state.is_open and not await told.has_past(task_id):
        # It ended so long ago that only the end itself is known.
        yield told.end(followed)
        return
    async with (
        aclosing(told.feed.follow(after, task_id=task_id)) as entries,
        aclosing(with_silences(entries, _POSITION_S)) as coming,
    ):
        async for entry in coming:
            if entry is not None:
                event = await told.event(entry)
                yield event
                if entry.what.is_end:
                    return
                place = event.data.get("queue_position")
            elif place is not None:
                try:
                    now = await told.following.look(task_id)
                except (StoreUnavailableError, TaskNotFoundError):
                    # The stream outlives the first, and is told of the second.
                    continue
                if now.position is not None and now.position != place:
                    place = now.position
                    yield ServerSentEvent(event=Happened.QUEUED, data=_waiting(now))
    if told.feed.closed:
        yield _closing()


class _Told:
    """Entries of the history as events for one client."""

    def __init__(self, services: Services, links: Links) -> None:
        self.feed: Feed = services.feed
        self.following: Following = services.following
        self._history = services.queue.history
        self._links = links

    async def has_past(self, task_id: str) -> bool:
        """Tell whether anything is known of what happened to a task."""
        return bool(await run_in_threadpool(self._history.after, 0, 1, task_id))

    async def event(self, entry: Entry) -> ServerSentEvent:
        data = {
            "task_id": entry.task_id,
            "at": _utc(entry.at),
            **entry.about,
        }
        return ServerSentEvent(
            event=entry.what, id=str(entry.number), data=data | await self._more(entry)
        )

    async def _more(self, entry: Entry) -> dict[str, Any]:
        """Say what is not in the history: where a task stands now, where its pictures are."""
        if entry.what is Happened.PREVIEW:
            index = entry.about["image_index"]
            return {"url": self._links.preview(entry.task_id, index)}
        if entry.what not in (Happened.QUEUED, Happened.COMPLETED):
            return {}
        try:
            followed = await self.following.look(entry.task_id)
        except (StoreUnavailableError, TaskNotFoundError):
            return {}
        if entry.what is Happened.COMPLETED:
            return self.status(followed)
        return _waiting(followed) if followed.task.state is TaskState.QUEUED else {}

    def end(self, followed: Followed) -> ServerSentEvent:
        """Return the end of a task of which nothing else is known; whoever has it has all."""
        task = followed.task
        data = {"at": _utc(task.completed_at or 0.0), "pictures": len(task.pictures)}
        return ServerSentEvent(event=task.state, id="0", data=self.status(followed) | data)

    def status(self, followed: Followed) -> dict[str, Any]:
        return StatusAnswer.of(followed, self._links).model_dump(mode="json")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _waiting(followed: Followed) -> dict[str, Any]:
    return {
        "task_id": followed.task.id,
        "queue_position": followed.position,
        "estimated_time": tenths(followed.seconds_left or 0.0),
    }


def _closing() -> ServerSentEvent:
    return ServerSentEvent(
        event="closing", data={"reason": "The server is stopping."}, retry=_RETRY_MS
    )
