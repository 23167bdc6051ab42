"""The tasks a worker group is running, from the claim to the end or back to the queue.

Renews their leases, and says what becomes of them when the group stops or goes down.
"""

import logging
import math
import time
from collections.abc import Callable

from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.recorder import Recorder, TaskEvent
from hidream_server.engine.roster import Roster, Running
from hidream_server.logs import log_context
from hidream_server.observer import UNOBSERVED, EndReason, Observer
from hidream_server.queue.outlook import Outlook
from hidream_server.queue.task_queue import LEASE_S
from hidream_server.task import Task

logger = logging.getLogger(__name__)

#: Least time between two writes of progress, and most between two renewals of leases, in seconds.
_PROGRESS_S, _RENEWAL_S = 0.25, LEASE_S / 6


class RunningTasks(Roster):
    """Keeps every claimed task until it is completed, failed or handed back."""

    def __init__(
        self,
        queue: PatientQueue,
        leavings: Leavings,
        outlook: Outlook,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = UNOBSERVED,
    ) -> None:
        super().__init__(leavings, outlook, clock, observer)
        self._queue = queue
        self._recorder = Recorder(self, queue, leavings, outlook, observer)
        self._last_beat = -math.inf

    async def checkpoint_of(self, task: Task) -> bytes | None:
        """Return what a task may go on from.

        After a second crash it begins anew: its checkpoint may be what brings groups down.
        """
        return await self._leavings.checkpoint_of(task) if task.crashes < 2 else None

    def steps_by(self, task: Task) -> float | None:
        """Return when a task's steps must be done, if it has a deadline."""
        return self._outlook.steps_by(task)

    async def record(self, event: TaskEvent) -> None:
        """Write down what an event says."""
        await self._recorder.record(event)

    async def beat(self) -> None:
        """Renew all leases and write down all progress, if it is time; leave what is lost."""
        self._writer.check()
        now = self._clock()
        since = now - self._last_beat
        if not self._running or since < (_PROGRESS_S if self._recorder.has_news else _RENEWAL_S):
            return
        self._last_beat, previews = now, self._recorder.take_previews()
        steps = {claim: running.steps_done for claim, running in self._running.items()}
        lost = await self._queue.beat(steps, previews)
        if lost is None:
            self._recorder.untold(previews)
        for claim in lost or ():
            if (running := self.get(claim)) is not None:
                with log_context(task=claim[0]):
                    logger.warning("Task was taken away")
                self.withdraw(running)

    async def hand_back_untouched(self) -> None:
        """Queue the tasks again that no step was spent on; the ranks are to leave them.

        Where no step was spent at all, the oldest is in its first one.
        """
        running = [one for one in self._running.values() if not one.done]
        untouched = [one for one in running if not one.under_way]
        for one in untouched if self.under_way else untouched[1:]:
            await self._hand_back(one, "The server is stopping.")
            self.withdraw(one)

    async def hand_back_all(self) -> None:
        """Queue all tasks again; they are not at fault."""
        for running in list(self._running.values()):
            await self._hand_back(running, "Its worker group was stopped.")

    async def crash_all(self, reason: str) -> bool:
        """Queue all tasks again whose group went down; fail those for which it did too often.

        A task that it had finished, or of which it never gave a sign, has no part in its end.
        Returns whether one was failed, which means that it, and not the group, was at fault.
        """
        if self.painting < len(self):
            await self.settle()
        failed = False
        for running in list(self._running.values()):
            if running.done or not running.begun:
                await self._hand_back(running, reason)
                continue
            with log_context(task=running.task.id):
                logger.warning("Task lost its worker group: %s", reason)
            if await self._queue.crashed(running.task, reason):
                failed = True
                self._observer.failed(running.task.id, EndReason.CRASHED)
                self.end(running)
            self.leave(running)
        return failed

    async def _hand_back(self, running: Running, reason: str) -> None:
        with log_context(task=running.task.id):
            if await self._queue.hand_back(running.claim, reason):
                logger.info("Task handed back to the queue")
        self.leave(running)
