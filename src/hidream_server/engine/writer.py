"""Does what takes its time beside the loop: of one task in order, of different ones at once.

Knows nothing of what is written. Where that goes to may be far away, or not there for a while.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

Write = Callable[[], Awaitable[None]]


class Writer:
    """Writes of many tasks; belongs to one event loop."""

    def __init__(self) -> None:
        #: By task, what is to be written after that which is being written.
        self._waiting: dict[str, deque[Write]] = {}
        self._at_work: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._listener: Callable[[], object] = lambda: None

    def listen(self, idle: Callable[[], object]) -> None:
        """Call `idle` when everything of a task is written, or a write has raised."""
        self._listener = idle

    def add(self, task_id: str, write: Write) -> None:
        """Do this after all that was added for the same task."""
        if task_id in self._waiting:
            self._waiting[task_id].append(write)
            return
        self._waiting[task_id] = deque([write])
        work = asyncio.create_task(self._work(task_id))
        self._at_work.add(work)
        work.add_done_callback(self._ended)

    def check(self) -> None:
        """Raise what a write has raised: a mistake, which is not to be passed over."""
        if self._error is not None:
            raise self._error

    async def settle(self, patience_s: float) -> None:
        """Wait until everything is written, but not for long."""
        if self._at_work:
            await asyncio.wait(self._at_work, timeout=patience_s)

    def close(self) -> None:
        """Leave what is yet to be written."""
        for work in self._at_work:
            work.cancel()

    async def _work(self, task_id: str) -> None:
        waiting = self._waiting[task_id]
        try:
            while waiting:
                await waiting.popleft()()
        finally:
            del self._waiting[task_id]

    def _ended(self, work: asyncio.Task[None]) -> None:
        self._at_work.discard(work)
        if not work.cancelled():
            self._error = self._error or work.exception()
        self._listener()
