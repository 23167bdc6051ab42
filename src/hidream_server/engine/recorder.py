"""What a worker group's events say of its tasks, written down.

Events of an attempt that is not running here any more change nothing. What they leave behind is
written beside the loop, so that leases are renewed however long that takes.
"""

import logging
from functools import partial

from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.roster import Roster, Running
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
from hidream_server.observer import STEP_OUTPUTS, EndReason, Observer
from hidream_server.queue.outlook import Outlook
from hidream_server.store.pictures import picture_name
from hidream_server.store.statements import Claim

logger = logging.getLogger(__name__)

TaskEvent = TaskBegun | StepDone | Checkpoint | ImageDone | Preview | TaskDone | TaskFailed


class Recorder:
    """Takes the events of the tasks on a roster."""

    def __init__(
        self,
        roster: Roster,
        queue: PatientQueue,
        leavings: Leavings,
        outlook: Outlook,
        observer: Observer,
    ) -> None:
        self._roster = roster
        self._queue = queue
        self._leavings = leavings
        self._outlook = outlook
        self._observer = observer
        #: A step was finished, or a preview came, that nobody has been told of.
        self.has_news = False
        #: Images of which there are such previews.
        self._previews: list[tuple[Claim, int]] = []

    def take_previews(self) -> list[tuple[Claim, int]]:
        """Return the images of which there are previews to be told of, and know of no news."""
        previews, self._previews, self.has_news = self._previews, [], False
        return previews

    def untold(self, previews: list[tuple[Claim, int]]) -> None:
        """Keep what was taken to be told, and could not be."""
        self._previews = previews + self._previews

    async def record(self, event: TaskEvent) -> None:
        """Write down what an event says."""
        running = self._roster.get((event.task_id, event.attempt))
        if running is None:
            return
        running.begun = True
        write = partial(self._roster.write, running)
        with log_context(task=event.task_id):
            match event:
                case TaskBegun():
                    pass
                case StepDone():
                    self._step_done(running, event)
                case Checkpoint():
                    if running.checkpoint is None:
                        write(self._checkpoint)
                    running.checkpoint = event.data
                case ImageDone():
                    write(partial(self._image_done, event=event))
                case Preview():
                    write(partial(self._preview, event=event))
                case TaskDone():
                    running.done = True
                    write(partial(self._task_done, event=event))
                case TaskFailed():
                    await self._fail(running, event.reason, EndReason.of(event.reason))

    def _step_done(self, running: Running, event: StepDone) -> None:
        running.under_way = True
        running.stepped_s += event.step_s
        if event.first and event.rows:
            self._observer.stepped(event.rows, event.step_s)
        self._outlook.stepped(running.task, event.steps_done, event.rows, event.step_s)
        logger.debug("Step %d of %d", event.steps_done, running.task.params.total_steps)
        running.steps_done = event.steps_done
        self.has_news = True

    async def _checkpoint(self, running: Running) -> None:
        data, running.checkpoint = running.checkpoint or b"", None
        await self._leavings.keep_checkpoint(running.claim, data)

    async def _preview(self, running: Running, event: Preview) -> None:
        index = event.image_index
        if await self._leavings.keep_preview(running.claim, index, event.data):
            self._previews.append((running.claim, index))
            self.has_news = True

    async def _image_done(self, running: Running, event: ImageDone) -> None:
        name = picture_name(event.task_id, event.attempt, event.image_index)
        try:
            kept = await self._leavings.keep_picture(
                name, event.data, lambda: running.task in self._roster
            )
        except OSError as error:
            reason = f"The picture could not be written: {error.strerror}."
            await self._fail(running, reason, EndReason.DISK)
            return
        if kept:
            running.pictures[event.image_index] = name
            running.picture_bytes += len(event.data)

    async def _task_done(self, running: Running, event: TaskDone) -> None:
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
            self._completed(running, event)
            self._roster.end(running)
        else:
            logger.warning("Task was taken away before its pictures could be published")
            self._roster.leave(running)

    def _completed(self, running: Running, event: TaskDone) -> None:
        """Tell those who watch, and those who foresee, how it went."""
        self._observer.completed(running.task, event.timings)
        if event.reused_steps is not None:
            steps = running.task.params.total_steps
            self._observer.looked_up(STEP_OUTPUTS, steps, event.reused_steps)
        if running.alone:
            self._outlook.completed(running.task, self._roster.seconds_beside(running))

    async def _fail(self, running: Running, reason: str, kind: EndReason = EndReason.OTHER) -> None:
        logger.error("Task failed: %s", reason)
        if await self._queue.fail(running.claim, reason):
            self._observer.failed(running.task.id, kind)
            self._roster.end(running)
        else:
            self._roster.leave(running)
