"""Server-sent events as an answer that may take long: with a sign of life while nothing happens.

Knows nothing of what is sent.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import anyio
from fastapi.responses import StreamingResponse
from fastapi.sse import ServerSentEvent, format_sse_event

_T = TypeVar("_T")

#: Proxies end connections on which nothing comes for a minute or so.
_HEARTBEAT_S = 15.0
#: A proxy is to pass on each event as it comes.
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def stream(
    events: AsyncGenerator[ServerSentEvent],
    may_go_on: Callable[[], Awaitable[bool]],
    heartbeat_s: float = _HEARTBEAT_S,
) -> StreamingResponse:
    """Answer with events as they come, and a comment whenever none came for so long.

    Before each it is asked whether the stream may go on.
    """
    return StreamingResponse(
        _encoded(events, may_go_on, heartbeat_s), media_type="text/event-stream", headers=_HEADERS
    )


async def with_silences(source: AsyncIterator[_T], silence_s: float) -> AsyncGenerator[_T | None]:
    """Yield what comes, and None whenever nothing came for so many seconds."""
    coming: asyncio.Future[_T] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait({coming}, timeout=silence_s)
            if not done:
                yield None
                continue
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield item
    finally:
        if coming is not None:
            coming.cancel()
            # Until it has left the source nobody else may close that; and whoever is cancelled by
            # the framework is so again at every wait.
            with anyio.CancelScope(shield=True):
                await asyncio.wait({coming})


async def _encoded(
    events: AsyncGenerator[ServerSentEvent],
    may_go_on: Callable[[], Awaitable[bool]],
    heartbeat_s: float,
) -> AsyncGenerator[bytes]:
    async with aclosing(events), aclosing(with_silences(events, heartbeat_s)) as coming:
        async for event in coming:
            if not await may_go_on():
                return
            yield _encode(event or ServerSentEvent(comment="still here"))


def _encode(event: ServerSentEvent) -> bytes:
    data = None if event.data is None else json.dumps(event.data, ensure_ascii=False)
    return format_sse_event(
        data_str=data, event=event.event, id=event.id, retry=event.retry, comment=event.comment
    )
