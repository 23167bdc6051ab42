"""Which tasks a group is given, and when.

A group may have several on hand, between which it changes at every step. A task that was there when
a group went down is alone in the next one, so that it can take no other with it.
"""

import math
import time
from collections.abc import Callable

from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.scheduling.places import open_places
from hidream_server.task import Task

#: The table is asked again after so many seconds, though nothing seems to have changed.
_ASK_AGAIN_S = 1.0


class Admission:
    """Claims tasks for a group that may have up to `max_running` on hand."""

    def __init__(
        self,
        queue: PatientQueue,
        running: RunningTasks,
        max_running: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._running = running
        self._max_running = max_running
        self._clock = clock
        #: How often there were news.
        self._told = 0
        #: How many were running when there was nothing to claim, and until when that is believed.
        self._nothing: tuple[int, float] = (-1, 0.0)
        #: Claimed, and to be started once it is alone.
        self._held: Task | None = None

    def news(self) -> None:
        """There may be something to claim, or a place for it, where there was not."""
        self._nothing = (-1, 0.0)
        self._told += 1

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
        running, until = self._nothing
        if running == len(self._running) and self._clock() < until:
            return None
        told, is_open = self._told, len(self._running) < open_places(self._max_running)
        due_before = math.inf if is_open else self._running.first_due
        for task in await self._queue.claim(due_before):
            self._running.add(task)
            return task
        # What came while the table was asked may not have been seen.
        if told == self._told:
            self._nothing = (len(self._running), self._clock() + _ASK_AGAIN_S)
        return None
