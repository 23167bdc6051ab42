"""Which tasks a group is given, and when.

A group may have several on hand, between which it changes at every step. A task that was there when
a group went down is alone in the next one, so that it can take no other with it. Each submission is
news to all groups, of which one gets the task: the more there are, the less often one asks in vain.
"""

import math
import random
import time
from collections.abc import Callable

from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.scheduling.places import open_places
from hidream_server.task import Task

#: The table is asked again after so many seconds, though nothing seems to have changed.
_ASK_AGAIN_S = 1.0
#: All groups together ask in vain about once in so many seconds; and the longest that one of them
#: lets news wait after it did.
_TURN_S, _LONGEST_PAUSE_S = 0.01, 5.0


class Admission:
    """Claims tasks for a group that may have up to `max_running` on hand."""

    def __init__(
        self,
        queue: PatientQueue,
        running: RunningTasks,
        max_running: int,
        groups: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """There are `groups` that take from the same queue."""
        self._queue = queue
        self._running = running
        self._max_running = max_running
        self._groups = groups
        self._clock = clock
        self._draw = draw
        #: There were news since the table was asked.
        self._news = False
        #: How many were running when there was nothing to claim, until when that is believed, and
        #: until when even if there are news.
        self._nothing: tuple[int, float, float] = (-1, 0.0, 0.0)
        #: Claimed, and to be started once it is alone.
        self._held: Task | None = None

    def news(self) -> None:
        """There may be something to claim where there was not."""
        self._news = True

    @property
    def ask_in_s(self) -> float:
        """Return in how many seconds the table is to be asked because of news; else infinity."""
        if not (self._news and self._has_place):
            return math.inf
        return self._nothing[2] - self._clock()

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
        if not self._has_place or self._is_in_vain:
            return None
        # What comes while the table is asked may not be seen.
        self._news = False
        is_open = len(self._running) < open_places(self._max_running)
        due_before = math.inf if is_open else self._running.first_due
        for task in await self._queue.claim(due_before):
            self._running.add(task)
            return task
        now, pause_s = self._clock(), self._pause_s()
        self._nothing = len(self._running), now + max(_ASK_AGAIN_S, pause_s), now + pause_s
        return None

    @property
    def _has_place(self) -> bool:
        return len(self._running) < self._max_running and not self._running.has_suspect

    @property
    def _is_in_vain(self) -> bool:
        """There was nothing to claim, and it is too early to ask again."""
        running, until, despite_news = self._nothing
        changed = running != len(self._running)
        return not changed and self._clock() < (despite_news if self._news else until)

    def _pause_s(self) -> float:
        """Return for how long to ask no more; by chance, so that groups do not ask all at once."""
        groups = self._groups()
        if groups == 1:
            return 0.0
        return min(_LONGEST_PAUSE_S, 2 * self._draw() * _TURN_S * groups)
