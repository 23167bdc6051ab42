"""The tasks a worker group is running, and what becomes of them as its events come in.

Events of an attempt that is not running here any more change nothing. What they leave behind is
written beside the loop, so that leases are renewed however long that takes.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.writer import Writer
from hidream_server.ipc.messages import (
    Checkpoint,
    ImageDone,
    Preview,
    StepDone,
    TaskBegun,
    TaskDone,
    TaskFailed,
)
from hidream_server.logs import log_context
from hidream_server.observer import STEP_OUTPUTS, UNOBSERVED, EndReason, Observer
from hidream_server.queue.outlook import Outlook
from hidream_server.queue.task_queue import LEASE_S
from hidream_server.store.pictures import picture_name
from hidream_server.store.statements import Claim
from hidream_server.task import Task

logger = logging.getLogger(__name__)

#: Least time between two writes of progress, and most between two renewals of leases, in seconds.
_PROGRESS_S, _RENEWAL_S = 0.25, LEASE_S / 6
#: How long whoever ends waits for what is yet to be written.
_SETTLE_S = 5.0

TaskEvent = TaskBegun | StepDone | Checkpoint | ImageDone | Preview | TaskDone | TaskFailed


@dataclass(slots=True)
class _Running:
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


class RunningTasks:
    """Records every claimed task until it is completed, failed or handed back."""

    def __init__(
        self,
        queue: PatientQueue,
        leavings: Leavings,
        outlook: Outlook,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._queue = queue
        self._leavings = leavings
        self._writer = Writer()
        self._outlook = outlook
        self._clock = clock
        self._observer = observer
        self._running: dict[Claim, _Running] = {}
        #: Attempts that the ranks are to work on no more.
        self._dropped: list[Claim] = []
        self._last_beat = -math.inf
        #: A step was finished since, or a preview came.
        self._moved = False
        self._new_previews: list[tuple[Claim, int]] = []

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

    def add(self, task: Task) -> None:
        self._running[task.id, task.attempt] = _Running(task, self._clock())
        if len(self) > 1:
            for running in self._running.values():
                running.alone = False
        with log_context(task=task.id):
            logger.info("Task started, attempt %d", task.attempt)
        self._observer.started(task)

    def drop(self, task_id: str) -> None:
        """Take note that a task was cancelled, whether it is running here or not."""
        for claim in [claim for claim in self._running if claim[0] == task_id]:
            running = self._running[claim]
            self._drop(claim)
            self._forget(running.task)
        self._drop_checkpoints(task_id)

    async def checkpoint_of(self, task: Task) -> bytes | None:
        """Return what a task may go on from.

        After a second crash it begins anew: its checkpoint may be what brings groups down.
        """
        return await self._leavings.checkpoint_of(task) if task.crashes < 2 else None

    def steps_by(self, task: Task) -> float | None:
        """Return when a task's steps must be done, if it has a deadline."""
        return self._outlook.steps_by(task)

    def take_dropped(self) -> list[Claim]:
        """Return the attempts that were dropped since the last time."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _drop(self, claim: Claim) -> None:
        if self._running.pop(claim, None) is not None:
            self._dropped.append(claim)

    async def record(self, event: TaskEvent) -> None:
        """Write down what an event says."""
        running = self._running.get((event.task_id, event.attempt))
        if running is None:
            return
        running.begun = True
        with log_context(task=event.task_id):
            match event:
                case TaskBegun():
                    pass
                case StepDone():
                    await self._step_done(running, event)
                case Checkpoint():
                    if running.checkpoint is None:
                        self._write(running, self._checkpoint)
                    running.checkpoint = event.data
                case ImageDone():
                    self._write(running, partial(self._image_done, event=event))
                case Preview():
                    self._write(running, partial(self._preview, event=event))
                case TaskDone():
                    running.done = True
                    self._write(running, partial(self._task_done, event=event))
                case TaskFailed():
                    await self._fail(running, event.reason, EndReason.of(event.reason))

    async def hand_back_untouched(self) -> None:
        """Queue the tasks again that no step was spent on; the ranks are to leave them.

        Where no step was spent at all, the oldest is in its first one.
        """
        running = [one for one in self._running.values() if not one.done]
        untouched = [one for one in running if not one.under_way]
        for one in untouched if self.under_way else untouched[1:]:
            await self._hand_back(one, "The server is stopping.")
            self._dropped.append(one.claim)

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
                self._end(running)
            self._leave(running)
        return failed

    async def _hand_back(self, running: _Running, reason: str) -> None:
        with log_context(task=running.task.id):
            if await self._queue.hand_back(running.claim, reason):
                logger.info("Task handed back to the queue")
        self._leave(running)

    async def _step_done(self, running: _Running, event: StepDone) -> None:
        running.under_way = True
        running.stepped_s += event.step_s
        if event.first and event.rows:
            self._observer.stepped(event.rows, event.step_s)
        self._outlook.stepped(running.task, event.steps_done, event.rows, event.step_s)
        logger.debug("Step %d of %d", event.steps_done, running.task.params.total_steps)
        running.steps_done = event.steps_done
        self._moved = True

    async def beat(self) -> None:
        """Renew all leases and write down all progress, if it is time; leave what is lost."""
        self._writer.check()
        now = self._clock()
        since = now - self._last_beat
        if not self._running or since < (_PROGRESS_S if self._moved else _RENEWAL_S):
            return
        self._last_beat, self._moved = now, False
        previews, self._new_previews = self._new_previews, []
        steps = {claim: running.steps_done for claim, running in self._running.items()}
        lost = await self._queue.beat(steps, previews)
        if lost is None:
            self._new_previews = previews + self._new_previews
        for claim in lost or ():
            if (running := self._running.get(claim)) is not None:
                with log_context(task=claim[0]):
                    logger.warning("Task was taken away")
                self._forget(running.task)
                self._drop(claim)

    def _write(self, running: _Running, write: Callable[[_Running], Awaitable[None]]) -> None:
        """Write something of a task after what was to be written before, if it still runs then."""

        async def unless_left() -> None:
            if running.claim in self._running:
                with log_context(task=running.task.id):
                    await write(running)

        self._writer.add(running.task.id, unless_left)

    async def _checkpoint(self, running: _Running) -> None:
        data, running.checkpoint = running.checkpoint or b"", None
        await self._leavings.keep_checkpoint(running.claim, data)

    async def _preview(self, running: _Running, event: Preview) -> None:
        index = event.image_index
        if await self._leavings.keep_preview(running.claim, index, event.data):
            self._new_previews.append((running.claim, index))
            self._moved = True

    async def _image_done(self, running: _Running, event: ImageDone) -> None:
        name = picture_name(event.task_id, event.attempt, event.image_index)
        try:
            kept = await self._leavings.keep_picture(
                name, event.data, lambda: running.claim in self._running
            )
        except OSError as error:
            reason = f"The picture could not be written: {error.strerror}."
            await self._fail(running, reason, EndReason.DISK)
            return
        if kept:
            running.pictures[event.image_index] = name
            running.picture_bytes += len(event.data)

    async def _task_done(self, running: _Running, event: TaskDone) -> None:
        images = range(running.task.params.num_images)
        missing = [index for index in images if index not in running.pictures]
        if missing:
            await self._fail(running, f"Image {missing[0]} never came.")
            return
        names = [running.pictures[index] for index in images]
        if await self._queue.complete(
            running.claim, names, event.timings, running.picture_bytes, event.reused_steps
        ):
            logger.info("Task completed with %d picture(s)", len(names))
            self._observer.completed(running.task, event.timings)
            if event.reused_steps is not None:
                steps = running.task.params.total_steps
                self._observer.looked_up(STEP_OUTPUTS, steps, event.reused_steps)
            if running.alone:
                self._outlook.completed(
                    running.task, self._clock() - running.since - running.stepped_s
                )
            self._end(running)
        else:
            logger.warning("Task was taken away before its pictures could be published")
            self._leave(running)

    async def _fail(
        self, running: _Running, reason: str, kind: EndReason = EndReason.OTHER
    ) -> None:
        logger.error("Task failed: %s", reason)
        if await self._queue.fail(running.claim, reason):
            self._observer.failed(running.task.id, kind)
            self._end(running)
        else:
            self._leave(running)

    def _end(self, running: _Running) -> None:
        self._leave(running)
        self._drop_checkpoints(running.task.id)

    def _leave(self, running: _Running) -> None:
        """Have no more to do with a task, whose checkpoint another attempt may need."""
        if self._running.pop(running.claim, None) is not None:
            self._forget(running.task)

    def _forget(self, task: Task) -> None:
        """Drop what is only of use while a task runs."""
        self._outlook.forget(task.id)
        self._observer.left(task)
        if task.params.num_previews:
            claim, count = (task.id, task.attempt), task.params.num_images
            self._writer.add(task.id, partial(self._leavings.drop_previews, claim, count))

    def _drop_checkpoints(self, task_id: str) -> None:
        """Drop them after all that is being written, which may be one of them."""
        self._writer.add(task_id, partial(self._leavings.drop_checkpoints, task_id))
