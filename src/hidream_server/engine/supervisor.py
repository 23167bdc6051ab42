"""Speaks for one worker group: keeps it alive, claims tasks for it, and drains it at the end.

Knows tasks and messages; knows nothing of tensors, HTTP, or how the ranks are started.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from hidream_server.engine.admission import Admission
from hidream_server.engine.health import HealthRecord
from hidream_server.engine.layout_ladder import LayoutLadder
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.engine.worker_group import WorkerGroup
from hidream_server.errors import (
    EngineError,
    GroupStartError,
    ProtocolError,
    StepTimeoutError,
    StoreUnavailableError,
)
from hidream_server.ipc.messages import (
    CancelTask,
    Event,
    GroupReady,
    Hello,
    LoadFailed,
    LogLine,
    Profile,
    RankUsage,
    StartTask,
    TaskDone,
)
from hidream_server.layouts.layout import Layout
from hidream_server.logs import log_context
from hidream_server.observer import PROMPT_EMBEDDINGS, UNOBSERVED, Observer
from hidream_server.task import Task

logger = logging.getLogger(__name__)

#: The table is asked for work so often even if nobody said that there is some, in seconds.
_POLL_S = 1.0
#: How long the start of another group is put off: doubles from the first to the last.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Bounds in seconds: a group that oversteps one is restarted, a drain is cut short."""

    load_s: float
    step_s: float
    drain_s: float


class Supervisor:
    """Keeps a worker group alive and busy until it is stopped."""

    def __init__(
        self,
        queue: PatientQueue,
        running: RunningTasks,
        new_group: Callable[[Layout], WorkerGroup],
        ladder: LayoutLadder,
        deadlines: Deadlines,
        learn: Callable[[Layout, Profile], object] = lambda _layout, _profile: None,
        max_running: int = 1,
        device: str = "device",
        where: str = "",
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = UNOBSERVED,
        number: int = 0,
        groups: Callable[[], int] = lambda: 1,
    ) -> None:
        """`number` is by which others know its group from those of other supervisors.

        There are `groups` that take from the same queue.
        """
        self._queue = queue
        self._running = running
        self._new_group = new_group
        self._ladder = ladder
        self._deadlines = deadlines
        self._learn = learn
        self._admission = Admission(queue, running, max_running, groups)
        #: What people call one of the devices, and which this group has, for the log.
        self._device = device
        self._name = f"Worker group on {where}" if where else "Worker group"
        self._clock = clock
        self._observer = observer
        self._number = number
        self._group: WorkerGroup | None = None
        self._stopping = asyncio.Event()
        self._stop_at: float | None = None
        #: How long the next start after a loss is put off.
        self._pause_s = _FIRST_PAUSE_S
        #: When the group last did something that a wedged one cannot.
        self._last_sign = clock()
        #: Set when a group has been warm for the first time.
        self.ready = asyncio.Event()
        self.health = HealthRecord(str(ladder.wanted))

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def running(self) -> int:
        """How many tasks the group is in the middle of."""
        return self._running.under_way

    @property
    def tasks(self) -> list[str]:
        """The ids of the tasks that the group has on hand."""
        return self._running.ids

    @property
    def stuck(self) -> bool:
        """The step deadline has passed twice: the group should have been replaced long ago.

        One that has said something goes on, though it is not heard while the database is away.
        """
        group, late = self._group, self._clock() >= self._last_sign + 2 * self._deadlines.step_s
        return group is not None and self._running.painting > 0 and late and not group.has_said_more

    async def run(self) -> None:
        """Serve until stopped: start a group, work with it, and when it is lost start another."""
        self._queue.listen(submitted=self._wake, ended=self._drop)
        self._running.listen(self._wake)
        try:
            while not self.stopping:
                await self._one_group()
            await self._running.settle()
        except StoreUnavailableError:
            # Only a stop makes the queue give up. Whoever starts next takes the tasks back.
            logger.error("The task database is away: %d task(s) stay leased", len(self._running))
        finally:
            self._running.close()

    async def _one_group(self) -> None:
        """Start a group and work with it until it is lost, or gives way to another."""
        layout = self._ladder.layout
        logger.info("%s starts with layout %s", self._name, layout)
        self.health.starting(str(layout))
        self._observer.group_started(self._number)
        try:
            async with self._new_group(layout) as self._group:
                await self._warm_up(self._group)
                self._pause_s = _FIRST_PAUSE_S
                await self._serve(self._group)
                await self._running.hand_back_all()
        except EngineError as error:
            await self._after_loss(error)
        finally:
            self._group = None

    def stop(self, drain_s: float | None = None) -> None:
        """Claim nothing more; let running tasks finish within a bound, then hand them back.

        A later stop may shorten the bound, never lengthen it.
        """
        self.health.stopping()
        bound = self._deadlines.drain_s if drain_s is None else drain_s
        stop_at = self._clock() + bound
        self._stop_at = stop_at if self._stop_at is None else min(self._stop_at, stop_at)
        self._queue.give_up_at(self._stop_at)
        self._stopping.set()
        self._wake()

    def _drop(self, task_id: str) -> None:
        self._running.cancelled(task_id)
        self._wake()

    def _wake(self) -> None:
        self._admission.news()
        if self._group is not None:
            self._group.wake()

    async def _warm_up(self, group: WorkerGroup) -> None:
        """Wait until the group has loaded the model; return early when stopped."""
        deadline = self._clock() + self._deadlines.load_s
        while not self.health.now.ready and not self.stopping:
            event = await self._next_event(group, deadline)
            if event is not None:
                await self._record(event)
            elif self._clock() >= deadline:
                raise GroupStartError(
                    f"The model was not loaded in {self._deadlines.load_s:.0f} s."
                )

    async def _serve(self, group: WorkerGroup) -> None:
        """Admit and record until stopped and drained, or until it is time for a larger layout.

        Raises EngineError when the group is lost.
        """
        while not self._drained():
            if await self._may_climb():
                self._ladder.climb()
                logger.info("The larger layout %s is tried again", self._ladder.layout)
                return
            await self._running.beat()
            if self.stopping:
                await self._running.hand_back_untouched()
            for task_id, attempt in self._running.take_withdrawn():
                await group.send(CancelTask(task_id=task_id, attempt=attempt))
            if not self.stopping:
                await self._admit(group)
            event = await self._next_event(group, self._next_deadline())
            if event is not None:
                await self._record(event)
            elif self._is_wedged(group):
                raise StepTimeoutError(f"No step was finished in {self._deadlines.step_s:.0f} s.")

    def _is_wedged(self, group: WorkerGroup) -> bool:
        """Tell whether the step deadline has passed; what a group said meanwhile is heard first."""
        late = self._clock() >= self._last_sign + self._deadlines.step_s
        return self._running.painting > 0 and late and not group.has_said_more

    async def _may_climb(self) -> bool:
        """A group gives way to a larger one when it is idle; on a busy server, between tasks."""
        if self._running or self.stopping or not self._ladder.may_climb:
            return False
        if self._ladder.must_climb:
            return True
        return await self._queue.is_idle()

    def _drained(self) -> bool:
        if self._stop_at is None:
            return False
        return not self._running or self._clock() >= self._stop_at

    def _next_deadline(self) -> float:
        deadlines = [self._clock() + _POLL_S]
        if self._running.painting:
            deadlines.append(self._last_sign + self._deadlines.step_s)
        if self._stop_at is None:
            deadlines.append(self._clock() + self._admission.ask_in_s)
        else:
            deadlines.append(self._stop_at)
        return min(deadlines)

    async def _next_event(self, group: WorkerGroup, deadline: float) -> Event | None:
        """Return the group's next event; None when woken or at the deadline."""
        try:
            # Even at a deadline in the past an event that is there is taken.
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                return await group.next_event()
        except TimeoutError:
            return None

    async def _admit(self, group: WorkerGroup) -> None:
        """Send the ranks what they may begin."""
        while (task := await self._admission.next_task()) is not None:
            checkpoint = await self._checkpoint_of(task)
            self._last_sign = self._clock()
            await group.send(
                StartTask(
                    task_id=task.id,
                    attempt=task.attempt,
                    arrived_at=task.arrived_at,
                    params=task.params,
                    client=task.client,
                    weight=task.weight,
                    steps_by=self._running.steps_by(task),
                    checkpoint=checkpoint,
                )
            )

    async def _checkpoint_of(self, task: Task) -> bytes | None:
        """Read what a task may go on from; leases are renewed however long that takes."""
        reading = asyncio.create_task(self._running.checkpoint_of(task))
        while not (await asyncio.wait([reading], timeout=_POLL_S))[0]:
            await self._running.beat()
        return reading.result()

    async def _record(self, event: Event) -> None:
        match event:
            case GroupReady():
                logger.info("%s ready: the model was loaded in %.1f s", self._name, event.load_s)
                self.health.warm(event.memory_bytes)
                if event.profile is not None:
                    self._learn(self._ladder.layout, event.profile)
                self.ready.set()
            case LoadFailed():
                raise GroupStartError(f"The model could not be loaded: {event.reason}")
            case LogLine():
                with log_context(task=event.task_id, rank=event.rank):
                    logging.getLogger(event.logger).log(event.level, "%s", event.text)
            case RankUsage():
                # No sign of life: it comes from a thread of its own.
                self._note(event)
            case Hello():
                raise ProtocolError("A rank said hello twice.")
            case _:
                self._last_sign = self._clock()
                await self._running.record(event)
                if isinstance(event, TaskDone):
                    self._ladder.proved()

    def _note(self, usage: RankUsage) -> None:
        self._observer.memory_used(self._number, usage.rank, usage.peak_memory_bytes)
        if usage.rank == 0:
            # All ranks of a group look up the same.
            self._observer.looked_up(PROMPT_EMBEDDINGS, usage.prompts, usage.prompts_cached)

    async def _after_loss(self, error: EngineError) -> None:
        """Say why, give the running tasks back, and wait a little."""
        reason = str(error).rstrip(".")
        pause, self._pause_s = self._pause_s, min(2 * self._pause_s, _LAST_PAUSE_S)
        logger.warning("%s lost: %s; another one starts in %.0f s", self._name, reason, pause)
        self.health.lost(str(error))
        suspect = self._running.suspect_begun
        if self._ladder.failed(to_the_last=suspect):
            layout = self._ladder.layout
            smaller = f"layout {layout}" if layout.ranks > 1 else f"single {self._device}"
            logger.warning("Distributed inference failed, trying %s…", smaller)
        if await self._running.crash_all(str(error)):
            self._ladder.pardon()
        await self._wait(pause)

    async def _wait(self, pause: float) -> None:
        """Wait, but not when stopping."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause)
