"""Carries what happens to tasks to all who follow them: one read serves every stream.

What was written before a stream began comes from the history itself, so that whoever says what it
heard last misses nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool

from hidream_server.errors import StoreUnavailableError
from hidream_server.store.history import Entry, History

logger = logging.getLogger(__name__)

#: The history is read so often even if nobody said that there is more, in seconds.
_POLL_S = 1.0
#: So many entries are read at once, and may wait for a reader of a stream.
_AT_ONCE, _MOST_WAITING = 500, 5000


@dataclass(eq=False, slots=True)
class _Stream:
    #: Whose entries it carries; None: all.
    task_id: str | None
    client: str | None
    waiting: asyncio.Queue[Entry | None] = field(default_factory=asyncio.Queue)


class Feed:
    """Reads while there are streams; belongs to one event loop."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._streams: set[_Stream] = set()
        self._reading: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._starting = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: All up to this number has been carried to the streams.
        self._number = 0
        self.closed = False
        history.on_more(self._hint)

    async def follow(
        self, after: int | None = None, task_id: str | None = None, client: str | None = None
    ) -> AsyncGenerator[Entry]:
        """Yield what happens to a task, or to those of a client, or to all.

        First what happened after that number, if one is given; ends when the feed is closed, or
        when the reader is too slow.
        """
        stream = _Stream(task_id, client)
        async with self._carried(stream):
            if self.closed:
                return
            number = self._number
            if after is not None:
                async for entry in self._past(after, number, task_id, client):
                    yield entry
            while (entry_or_end := await stream.waiting.get()) is not None:
                yield entry_or_end

    async def ended(self, task_id: str) -> None:
        """Wait until a task has ended, or the feed is closed."""
        async with contextlib.aclosing(self.to_the_end(task_id)) as entries:
            async for _ in entries:
                pass

    async def to_the_end(self, task_id: str) -> AsyncGenerator[Entry]:
        """Yield all that happens to a task until it has ended, or the feed is closed."""
        number = 0
        while not self.closed:
            async with contextlib.aclosing(self.follow(number, task_id=task_id)) as entries:
                async for entry in entries:
                    number = entry.number
                    yield entry
                    if entry.what.is_end:
                        return

    async def close(self) -> None:
        """Carry what has been written, then end all streams."""
        self.closed = True
        self._stop_reading()
        with contextlib.suppress(StoreUnavailableError):
            await self._carry()
        for stream in list(self._streams):
            self._end(stream)

    @contextlib.asynccontextmanager
    async def _carried(self, stream: _Stream) -> AsyncGenerator[None]:
        """Have all that happens from now on put into a stream."""
        async with self._starting:
            if not self.closed and (self._reading is None or self._reading.done()):
                self._loop = asyncio.get_running_loop()
                self._number = await run_in_threadpool(self._history.last_number)
                self._reading = asyncio.create_task(self._read())
            self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._stop_reading()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def _past(
        self, after: int, until: int, task_id: str | None, client: str | None
    ) -> AsyncGenerator[Entry]:
        while True:
            entries = await run_in_threadpool(self._history.after, after, _AT_ONCE, task_id, client)
            for entry in entries:
                if entry.number > until:
                    return
                yield entry
            if len(entries) < _AT_ONCE:
                return
            after = entries[-1].number

    async def _read(self) -> None:
        while True:
            try:
                await self._carry()
            except StoreUnavailableError:
                # While the database is away nothing happens that could be told.
                pass
            except Exception:
                logger.exception("What happened to tasks could not be read; streams begin anew")
                for stream in list(self._streams):
                    self._end(stream)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._more.wait()
            self._more.clear()

    async def _carry(self) -> None:
        """Put what is new into the streams that want it."""
        while entries := await run_in_threadpool(
            self._history.after, self._number, _AT_ONCE, settled=True
        ):
            by_task: dict[str | None, list[_Stream]] = {}
            for stream in self._streams:
                by_task.setdefault(stream.task_id, []).append(stream)
            for entry in entries:
                for stream in (*by_task.get(entry.task_id, ()), *by_task.get(None, ())):
                    if stream.client in (None, entry.client):
                        self._put(stream, entry)
            self._number = entries[-1].number

    def _put(self, stream: _Stream, entry: Entry) -> None:
        if stream not in self._streams:
            return
        if stream.waiting.qsize() < _MOST_WAITING:
            stream.waiting.put_nowait(entry)
        else:
            # Its reader may come again, and say what it heard last.
            self._end(stream)

    def _end(self, stream: _Stream) -> None:
        self._streams.discard(stream)
        stream.waiting.put_nowait(None)

    def _hint(self) -> None:
        if self._streams and self._loop is not None:
            with contextlib.suppress(RuntimeError):
                # The loop may be closed: then nobody follows.
                self._loop.call_soon_threadsafe(self._more.set)
