"""Which tasks a group is given, and when.

A group may have several on hand, between which it changes at every step. A task that was there when
a group went down is alone in the next one, so that it can take no other with it.
"""

import asyncio
import math
import socket

from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.task import Task

#: One place of so many is kept for tasks that others must not make wait.
_KEPT = 4


class Admission:
    """Claims tasks for a group that may have up to `max_running` on hand."""

    def __init__(self, queue: TaskQueue, running: RunningTasks, max_running: int) -> None:
        self._queue = queue
        self._running = running
        self._max_running = max_running
        #: Beyond so many only those are taken that pass all on hand, or whose client has none.
        self._open = max_running - max_running // _KEPT
        self._owner = socket.gethostname()[:64]
        #: Claimed, and to be started once it is alone.
        self._held: Task | None = None

    async def next_task(self) -> Task | None:
        """Return a task to be started now, None if there is none or no place for it."""
        if self._held is not None and self._held not in self._running:
            self._held = None
        task = self._held or await self._claim()
        if task is None:
            return None
        must_wait = task.crashes > 0 and len(self._running) > 1
        self._held = task if must_wait else None
        return None if must_wait else task

    async def _claim(self) -> Task | None:
        if len(self._running) >= self._max_running or self._running.has_suspect:
            return None
        due_before = math.inf if len(self._running) < self._open else self._running.first_due
        for task in await asyncio.to_thread(self._queue.claim, self._owner, 1, due_before):
            self._running.add(task)
            return task
        return None
