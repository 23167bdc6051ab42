"""What a rank says of its tasks: at once where it is quick, by a thread beside the loop where not.

Knows events and task runs; knows nothing of steps, models or pixels.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.messages import (
    Checkpoint,
    Event,
    ImageDone,
    Preview,
    StartTask,
    StepDone,
    TaskBegun,
    TaskDone,
    TaskFailed,
)
from hidream_server.logs import log_context
from hidream_server.worker.task_run import TaskRun

logger = logging.getLogger(__name__)


class Outbox:
    """Rank 0 speaks for its group; the other ranks' outboxes are silent."""

    def __init__(self, channel: RankChannel, rank: int, drop: Callable[[TaskRun], object]) -> None:
        """`drop` is called, in the thread, with a task that was reported as failed there."""
        self._channel = channel
        self._silent = rank != 0
        self._drop = drop
        # One thread: a task's images come in order, and its end after them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")

    @property
    def silent(self) -> bool:
        return self._silent

    def begun(self, start: StartTask) -> None:
        """Said before any work: if the work kills this process, it must be known whose it was."""
        self._now(TaskBegun(task_id=start.task_id, attempt=start.attempt))

    def step_done(self, run: TaskRun, rows: int, seconds: float, first: bool) -> None:
        """Say how far a task is, and what the step took that it shared with others.

        `first` is true for one of them.
        """
        self._now(
            StepDone(
                task_id=run.start.task_id,
                attempt=run.start.attempt,
                steps_done=run.steps_done,
                rows=rows,
                step_s=seconds,
                first=first,
            )
        )

    def checkpoint(self, run: TaskRun, pack: Callable[[], bytes]) -> None:
        """Pack what a task needs to go on beside the loop, and send it."""
        who = {"task_id": run.start.task_id, "attempt": run.start.attempt}
        self._later(run, lambda: Checkpoint(**who, data=pack()), vital=False)

    def image_done(self, run: TaskRun, image_index: int, make: Callable[[], bytes]) -> None:
        """Make an image's file beside the loop, and send it."""
        who = {"task_id": run.start.task_id, "attempt": run.start.attempt}
        self._later(run, lambda: ImageDone(**who, image_index=image_index, data=make()))

    def preview(self, run: TaskRun, image_index: int, make: Callable[[], bytes]) -> None:
        """Make a picture of an unfinished image beside the loop, and send it."""
        who = {"task_id": run.start.task_id, "attempt": run.start.attempt}
        self._later(run, lambda: Preview(**who, image_index=image_index, data=make()), vital=False)

    def task_done(self, run: TaskRun) -> None:
        """Said after the task's images have been sent."""
        who = {"task_id": run.start.task_id, "attempt": run.start.attempt}
        self._later(
            run, lambda: TaskDone(**who, timings=run.timings, reused_steps=run.reused_steps)
        )

    def failed(self, run: TaskRun, error: Exception) -> None:
        event = _failed(run, error)
        self._later(run, lambda: event)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _now(self, event: Event) -> None:
        if not self._silent:
            self._channel.send(event)

    def _later(self, run: TaskRun, make: Callable[[], Event], vital: bool = True) -> None:
        if not self._silent:
            self._thread.submit(self._send, run, make, vital)

    def _send(self, run: TaskRun, make: Callable[[], Event], vital: bool) -> None:
        """Send an event; a vital one that cannot be made fails its task, and is the last word."""
        if run.given_up:
            return
        with log_context(task=run.start.task_id):
            try:
                event = make()
            except Exception as error:
                if not vital:
                    logger.exception("A checkpoint or a preview could not be made")
                    return
                logger.exception("The picture could not be made into a file")
                run.given_up = True
                self._drop(run)
                event = _failed(run, error)
            self._channel.send(event)


def first_line(error: Exception) -> str:
    """Say an error in one line; an accelerator's out-of-memory text goes on for a page."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _failed(run: TaskRun, error: Exception) -> TaskFailed:
    return TaskFailed(
        task_id=run.start.task_id, attempt=run.start.attempt, reason=first_line(error)
    )
