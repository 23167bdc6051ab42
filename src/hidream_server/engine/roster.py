"""The attempts at tasks that a worker group has on hand, and what is written of each in turn.

Knows who is there and how far; what events mean, and how tasks end, is decided elsewhere.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from hidream_server.engine.leavings import Leavings
from hidream_server.engine.writer import Writer
from hidream_server.logs import log_context
from hidream_server.observer import UNOBSERVED, Observer
from hidream_server.queue.outlook import Outlook
from hidream_server.store.statements import Claim
from hidream_server.task import Task

logger = logging.getLogger(__name__)

#: How long whoever ends waits for what is yet to be written.
_SETTLE_S = 5.0


@dataclass(slots=True)
class Running:
    """An attempt at a task, as far as it has come."""

    task: Task
    since: float
    pictures: dict[int, str] = field(default_factory=dict)
    picture_bytes: int = 0
    steps_done: int = 0
    #: The latest that is not yet being written.
    checkpoint: bytes | None = None
    #: The ranks have done all of it: what remains is to write.
    done: bool = False
    #: The ranks have given a sign of working on it.
    begun: bool = False
    #: They have finished a step of it.
    under_way: bool = False
    #: Seconds of the steps that it took part in.
    stepped_s: float = 0.0
    #: No other task was running beside it at any time.
    alone: bool = True

    @property
    def claim(self) -> Claim:
        return self.task.id, self.task.attempt


class Roster:
    """The running attempts, by claim.

    Of one that has left nothing more is written; files that nobody needs then are deleted.
    """

    def __init__(
        self,
        leavings: Leavings,
        outlook: Outlook,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._leavings = leavings
        self._writer = Writer()
        self._outlook = outlook
        self._clock = clock
        self._observer = observer
        self._running: dict[Claim, Running] = {}
        #: Attempts that the ranks are to work on no more.
        self._withdrawn: list[Claim] = []

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, task: Task) -> bool:
        return (task.id, task.attempt) in self._running

    @property
    def painting(self) -> int:
        """How many of them the ranks have something to do for."""
        return sum(not one.done for one in self._running.values())

    @property
    def ids(self) -> list[str]:
        return [task_id for task_id, _ in self._running]

    @property
    def under_way(self) -> int:
        """How many of them steps were spent on."""
        return sum(one.under_way for one in self._running.values())

    @property
    def has_suspect(self) -> bool:
        """One of them was there when a group went down."""
        return any(one.task.crashes > 0 for one in self._running.values())

    @property
    def suspect_begun(self) -> bool:
        """Such a one, which is alone, is being worked on."""
        return any(one.begun and one.task.crashes > 0 for one in self._running.values())

    @property
    def first_due(self) -> float:
        """When the first of them is due that has no deadline; infinite if there is none."""
        tasks = (one.task for one in self._running.values())
        return min((task.due for task in tasks if task.deadline_at is None), default=math.inf)

    def add(self, task: Task) -> None:
        self._running[task.id, task.attempt] = Running(task, self._clock())
        if len(self) > 1:
            for running in self._running.values():
                running.alone = False
        with log_context(task=task.id):
            logger.info("Task started, attempt %d", task.attempt)
        self._observer.started(task)

    def get(self, claim: Claim) -> Running | None:
        return self._running.get(claim)

    def seconds_beside(self, running: Running) -> float:
        """Return the seconds since an attempt came in that were not its steps'."""
        return self._clock() - running.since - running.stepped_s

    def cancelled(self, task_id: str) -> None:
        """Take note that a task was cancelled, whether it is running here or not."""
        for running in [one for one in self._running.values() if one.task.id == task_id]:
            self.withdraw(running)
        self._drop_checkpoints(task_id)

    def withdraw(self, running: Running) -> None:
        """Leave an attempt that the ranks are to work on no more."""
        self._withdrawn.append(running.claim)
        self.leave(running)

    def take_withdrawn(self) -> list[Claim]:
        """Return the attempts that were withdrawn since the last time."""
        withdrawn, self._withdrawn = self._withdrawn, []
        return withdrawn

    def end(self, running: Running) -> None:
        """Leave a task that has ended for good."""
        self.leave(running)
        self._drop_checkpoints(running.task.id)

    def leave(self, running: Running) -> None:
        """Have no more to do with a task, whose checkpoint another attempt may need."""
        if self._running.pop(running.claim, None) is None:
            return
        task = running.task
        self._outlook.forget(task.id)
        self._observer.left(task)
        if task.params.num_previews:
            drop = partial(self._leavings.drop_previews, running.claim, task.params.num_images)
            self._writer.add(task.id, drop)

    def _drop_checkpoints(self, task_id: str) -> None:
        """Drop them after all that is being written, which may be one of them."""
        self._writer.add(task_id, partial(self._leavings.drop_checkpoints, task_id))

    # What is written

    def write(self, running: Running, write: Callable[[Running], Awaitable[None]]) -> None:
        """Write something of a task after what was to be written before, if it still runs then."""

        async def unless_left() -> None:
            if running.claim in self._running:
                with log_context(task=running.task.id):
                    await write(running)

        self._writer.add(running.task.id, unless_left)

    def listen(self, changed: Callable[[], object]) -> None:
        """Call `changed`, in the event loop, when one may have come to its end."""
        self._writer.listen(changed)

    async def settle(self) -> None:
        """Wait until everything is written, but not for long; raise a mistake in that."""
        await self._writer.settle(_SETTLE_S)
        self._writer.check()

    def close(self) -> None:
        """Write nothing more."""
        self._writer.close()
        self._leavings.close()
