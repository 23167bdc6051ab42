"""GET /metrics: what Prometheus asks for now and then."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response

from hidream_server import __version__
from hidream_server.api.services import Services, ServicesDep
from hidream_server.errors import StoreUnavailableError
from hidream_server.metrics.state import State
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.task import TaskState

router = APIRouter(tags=["health"])

#: How long a scrape waits for the database, in seconds; Prometheus gives up after ten.
_PATIENCE_S = 2.0

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}

Counts = Mapping[TaskState, int]


class Counting:
    """Asks the database how many tasks there are: one question at a time, not waited for long.

    Scrapes go on while a database hangs; they must not take one thread after the other.
    """

    def __init__(self, queue: TaskQueue, patience_s: float = _PATIENCE_S) -> None:
        self._queue = queue
        self._patience_s = patience_s
        self._asking: asyncio.Task[Counts | None] | None = None

    async def look(self) -> Counts | None:
        """Return the tasks by state, None if the database does not answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
        done, _ = await asyncio.wait((self._asking,), timeout=self._patience_s)
        return self._asking.result() if done else None

    def _ask(self) -> Counts | None:
        try:
            return self._queue.counts()
        except StoreUnavailableError:
            return None


async def _counting(request: Request) -> Counting:
    counting: Counting = request.app.state.counting
    return counting


@router.get("/metrics", response_class=Response, responses=_TEXT)
async def metrics(
    services: ServicesDep,
    counting: Annotated[Counting, Depends(_counting)],
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Say what was counted since the start, and how the server is now, for Prometheus."""
    state = State(build=_build(services), health=services.health(), counts=await counting.look())
    text, content_type = services.metrics.text(state, accept)
    return Response(text, headers={"Content-Type": content_type})


def _build(services: Services) -> dict[str, str]:
    return {
        "version": __version__,
        "model": services.model.name,
        "variant": services.model.variant,
        "device": services.devices.kind.name,
    }
