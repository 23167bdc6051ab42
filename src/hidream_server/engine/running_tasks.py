"""The tasks a worker group is running, and what becomes of them as its events come in.

Events of an attempt that is not running here any more change nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hidream_server.ipc.messages import ImageDone, StepDone, TaskDone, TaskFailed
from hidream_server.logs import log_context
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.pictures import PictureFolder, picture_name
from hidream_server.task import Task

logger = logging.getLogger(__name__)

#: Least time between two writes of a task's progress, in seconds.
_BEAT_S = 0.25

TaskEvent = StepDone | ImageDone | TaskDone | TaskFailed


@dataclass(slots=True)
class _Running:
    task: Task
    pictures: dict[int, str] = field(default_factory=dict)
    last_beat: float = 0.0

    @property
    def claim(self) -> tuple[str, int]:
        return self.task.id, self.task.attempt


class RunningTasks:
    """Records every claimed task until it is completed, failed or handed back."""

    def __init__(
        self,
        queue: TaskQueue,
        pictures: PictureFolder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._pictures = pictures
        self._clock = clock
        self._running: dict[tuple[str, int], _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def add(self, task: Task) -> None:
        self._running[task.id, task.attempt] = _Running(task)
        with log_context(task=task.id):
            logger.info("Task started, attempt %d", task.attempt)

    async def record(self, event: TaskEvent) -> None:
        """Write down what an event says."""
        running = self._running.get((event.task_id, event.attempt))
        if running is None:
            return
        with log_context(task=event.task_id):
            match event:
                case StepDone():
                    await self._step_done(running, event)
                case ImageDone():
                    await self._image_done(running, event)
                case TaskDone():
                    await self._task_done(running, event)
                case TaskFailed():
                    await self._fail(running, event.reason)

    async def hand_back_all(self) -> None:
        """Queue all tasks again; they are not at fault."""
        for running in self._running.values():
            with log_context(task=running.task.id):
                logger.info("Task handed back to the queue")
            await asyncio.to_thread(self._queue.hand_back, running.claim)
        self._running.clear()

    async def crash_all(self, reason: str) -> None:
        """Queue all tasks again that still have attempts left; their group went down."""
        for running in self._running.values():
            with log_context(task=running.task.id):
                logger.warning("Task lost its worker group: %s", reason)
            await asyncio.to_thread(self._queue.crashed, running.task, reason)
        self._running.clear()

    async def _step_done(self, running: _Running, event: StepDone) -> None:
        logger.debug("Step %d of %d", event.steps_done, running.task.params.total_steps)
        now = self._clock()
        if now - running.last_beat < _BEAT_S:
            return
        running.last_beat = now
        if not await asyncio.to_thread(self._queue.beat, running.claim, event.steps_done):
            logger.warning("Task lost its lease")
            del self._running[running.claim]

    async def _image_done(self, running: _Running, event: ImageDone) -> None:
        name = picture_name(event.task_id, event.attempt, event.image_index)
        try:
            await asyncio.to_thread(self._pictures.put, name, event.data)
        except OSError as error:
            await self._fail(running, f"The picture could not be written: {error.strerror}.")
        else:
            running.pictures[event.image_index] = name

    async def _task_done(self, running: _Running, event: TaskDone) -> None:
        names = [running.pictures[index] for index in sorted(running.pictures)]
        await asyncio.to_thread(self._queue.complete, running.claim, names, event.timings)
        logger.info("Task completed with %d picture(s)", len(names))
        del self._running[running.claim]

    async def _fail(self, running: _Running, reason: str) -> None:
        await asyncio.to_thread(self._queue.fail, running.claim, reason)
        logger.error("Task failed: %s", reason)
        del self._running[running.claim]
