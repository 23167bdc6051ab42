"""How many tasks there are, for scrapes: one question at a time, and not waited for long.

Scrapes go on while a database hangs; they must not take one thread after the other.
"""

import asyncio
from collections.abc import Mapping

from hidream_server.errors import StoreUnavailableError
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.task import TaskState

#: How long a scrape waits for the database, in seconds; Prometheus gives up after ten.
_PATIENCE_S = 2.0

Counts = Mapping[TaskState, int]


class Counting:
    """Asks the database for all who scrape; belongs to one event loop."""

    def __init__(self, queue: TaskQueue, patience_s: float = _PATIENCE_S) -> None:
        self._queue = queue
        self._patience_s = patience_s
        self._asking: asyncio.Task[Counts | None] | None = None

    async def look(self) -> Counts | None:
        """Return the tasks by state, None if the database does not answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
        asking = self._asking
        done, _ = await asyncio.wait((asking,), timeout=self._patience_s)
        return asking.result() if done else None

    def _ask(self) -> Counts | None:
        try:
            return self._queue.counts()
        except StoreUnavailableError:
            return None
