"""The rank loop: turn by turn do what rank 0 decides, until told to leave.

The loop waits for nobody: prompts are encoded and files are made by threads beside it, commands
are read by another.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hidream_server.devices.choice import KINDS
from hidream_server.errors import SamplingError
from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.messages import (
    CancelTask,
    LoadModel,
    StartTask,
    Stop,
)
from hidream_server.ipc.reporting import report_logs
from hidream_server.layouts.layout import Layout
from hidream_server.logs import log_context
from hidream_server.pipeline.denoise import ImageRun
from hidream_server.scheduling.active_task import Share
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.widths import Widths
from hidream_server.worker.broadcast import Broadcast
from hidream_server.worker.dispatcher import Dispatcher, Encoded
from hidream_server.worker.loading import load_model
from hidream_server.worker.outbox import Outbox, first_line
from hidream_server.worker.reports import Reports
from hidream_server.worker.task_run import TaskRun
from hidream_server.worker.turn import Turn
from hidream_server.worker.usage import UsageReports

logger = logging.getLogger(__name__)

#: One of a task's images, by its place.
_Image = tuple[TaskRun, int]


class Worker:
    """One rank of a worker group."""

    def __init__(self, channel: RankChannel, rank: int) -> None:
        self._channel = channel
        self._rank = rank
        self._dispatcher = Dispatcher()
        #: Tasks whose prompts are being encoded, and those that can be stepped, by number.
        self._waiting: dict[int, TaskRun] = {}
        self._runs: dict[int, TaskRun] = {}
        self._admitted = 0
        self._loaded = threading.Event()
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encoding")
        self._outbox = Outbox(channel, rank, drop=lambda run: self._dispatcher.tell(run.cancel))

    def run(self) -> None:
        """Serve until told to stop; leave at once when the supervisor goes."""
        load = self._channel.receive()
        if not isinstance(load, LoadModel):
            return
        report_logs(self._channel, self._rank, load.log_level)
        threading.Thread(target=self._read_commands, daemon=True).start()
        kind = KINDS[load.device_type]
        self._together = Layout.parse(load.layout).ranks > 1
        self._broadcast: Broadcast[Turn] = Broadcast(kind.name, kind.backend)
        if not self._get_ready(load):
            return
        while not self._turn():
            pass
        # Not waited for: other ranks may have left in the middle of what it does.
        self._encoding.shutdown(wait=False, cancel_futures=True)
        self._outbox.close()
        self._broadcast.close()

    def _turn(self) -> bool:
        """Take a turn with all ranks; return whether it was the last."""
        # Deciding is a part of a step's time, waiting for something to do is not.
        since = time.perf_counter() if self._runs else None
        turn = self._broadcast.share(self._decide())
        self._take(turn, since or time.perf_counter())
        return turn.leave

    def _decide(self) -> Turn | None:
        return self._dispatcher.decide(self._runs) if self._rank == 0 else None

    def _get_ready(self, load: LoadModel) -> bool:
        """Load the model, and make what works with it; return whether that was possible."""
        loaded = load_model(load, self._rank, self._broadcast, self._channel)
        if loaded is None:
            return False
        profile, self._runner = loaded.profile, loaded.runner
        widths = Widths(profile.step_s, load.max_rows, load.max_row_tokens)
        self._dispatcher.know(Pace(profile.step_s), widths)
        self._reports = Reports(self._outbox, self._runner, profile.preview_map, load.checkpoint_s)
        self._loaded.set()
        UsageReports(self._channel, self._rank, self._runner).start()
        return True

    def _read_commands(self) -> None:
        """Take in commands; end the process when there can be no more.

        Whatever the other threads do then, even inside a load or a collective, ends with it.
        """
        try:
            while (command := self._channel.receive()) is not None:
                if isinstance(command, Stop) and not self._loaded.is_set():
                    os._exit(0)
                self._dispatcher.tell(command)
        finally:
            os._exit(1)

    # Turns: all ranks alike

    def _take(self, turn: Turn, since: float) -> None:
        self._drop(turn.cancel)
        for start in turn.admit:
            self._admit(start, turn.cancel)
        if turn.reuse:
            self._reuse([(self._runs[number], index) for number, index in turn.reuse], since)
        if turn.step:
            self._step([run for share in turn.step for run in self._images(share)], since)
        for number in turn.begin:
            if number in self._waiting:
                self._begin(self._waiting.pop(number))

    def _drop(self, unwanted: Sequence[CancelTask]) -> None:
        for tasks in (self._waiting, self._runs):
            for run in [run for run in tasks.values() if run.is_in(unwanted)]:
                run.given_up = True
                del tasks[run.number]

    def _admit(self, start: StartTask, unwanted: Sequence[CancelTask]) -> None:
        """Let a task's prompts be encoded, unless it is not wanted any more."""
        self._admitted += 1
        number = self._admitted
        tokens = self._runner.tokens(start.params)
        if CancelTask(task_id=start.task_id, attempt=start.attempt) in unwanted:
            return
        self._outbox.begun(start)
        coming = self._encoding.submit(self._encode, start)
        self._waiting[number] = TaskRun(start, number, tokens, coming)
        if self._rank == 0:
            coming.add_done_callback(lambda _: self._dispatcher.tell(Encoded(number)))

    def _begin(self, run: TaskRun) -> None:
        """Go on from a task's checkpoint, or from the first noise."""
        try:
            run.images, run.timings["encode_s"] = run.coming.result()
        except Exception as error:
            self._fail(run, error)
            return
        self._runs[run.number] = run
        if run.start.checkpoint is not None:
            self._resume(run, run.start.checkpoint)

    def _resume(self, run: TaskRun, checkpoint: bytes) -> None:
        """Go on from a checkpoint; where that cannot be, begin anew."""
        with log_context(task=run.start.task_id):
            try:
                self._runner.resume(run.images, checkpoint)
            except ValueError as error:
                logger.warning("The task begins anew, its checkpoint is of no use: %s", error)
                return
            logger.info("The task goes on after step %d", run.steps_done)
        for index, image in enumerate(run.images):
            if image.finished:
                self._reports.image(run, index)
        self._settle(run)

    # Steps

    def _images(self, share: Share) -> list[_Image]:
        run = self._runs[share.number]
        return [(run, index) for index in run.unfinished[: share.images]]

    def _reuse(self, images: Sequence[_Image], since: float) -> None:
        """Take images a step further without a forward."""
        for run, index in images:
            if run.number not in self._runs:
                # It has failed with another of its images.
                continue
            try:
                self._runner.reuse(run.images[index])
            except Exception as error:
                self._fail(run, error)
        if taken := [image for image in images if image[0].number in self._runs]:
            self._after_step(taken, time.perf_counter() - since, rows=0)

    def _step(self, images: Sequence[_Image], since: float) -> None:
        """Take images a step further in one forward; if that fails for several, each by itself."""
        try:
            self._runner.step([run.images[index] for run, index in images])
        except Exception as error:
            if self._together:
                raise
            if len(images) == 1 or isinstance(error, SamplingError):
                for run in {run.number: run for run, _ in images}.values():
                    self._fail(run, error)
                return
            logger.warning("A step of %d images failed: %s", len(images), first_line(error))
            if self._runner.is_out_of_memory(error):
                self._dispatcher.too_wide([run for run, _ in images])
        else:
            seconds = time.perf_counter() - since
            if self._rank == 0:
                self._dispatcher.stepped([run for run, _ in images], seconds)
            self._after_step(images, seconds, sum(run.image_rows for run, _ in images))
            return
        # Not inside of the handler, where what the failed step held is not free yet.
        for image in images:
            # Its task may have failed with another of its images.
            if image[0].number in self._runs:
                self._step([image], time.perf_counter())

    def _after_step(self, images: Sequence[_Image], seconds: float, rows: int) -> None:
        for run in {run.number: run for run, _ in images}.values():
            run.timings["denoise_s"] = run.timings.get("denoise_s", 0.0) + seconds
            self._outbox.step_done(run, rows, seconds, first=run is images[0][0])
        for run, index in images:
            if run.images[index].finished:
                self._reports.image(run, index)
            elif run.preview_due(index):
                self._reports.preview(run, index)
        for run in {run.number: run for run, _ in images}.values():
            self._settle(run)

    def _settle(self, run: TaskRun) -> None:
        """End a task whose images are all painted; save one that goes on, now and then."""
        if run.finished:
            del self._runs[run.number]
            self._outbox.task_done(run)
        else:
            self._reports.checkpoint(run)

    def _fail(self, run: TaskRun, error: Exception) -> None:
        """Let what goes wrong with one task fail that task, not the group.

        A device that is broken for good ends the rank instead: no other task must suffer from it.
        So does any error where ranks work together: the others may be waiting for this one.
        """
        with log_context(task=run.start.task_id):
            logger.error("The task cannot go on", exc_info=error)
        if self._together:
            raise error
        self._runner.check_device()
        self._runs.pop(run.number, None)
        self._outbox.failed(run, error)

    def _encode(self, start: StartTask) -> tuple[list[ImageRun], float]:
        """Return a task's images at their first noise, and the seconds that took; beside the loop.

        Where ranks work together, an error ends this one: the others are waiting for its part.
        """
        begun = time.perf_counter()
        with log_context(task=start.task_id):
            try:
                return self._runner.begin(start.params), time.perf_counter() - begun
            except Exception:
                if self._together:
                    logger.exception("The prompts cannot be encoded")
                    os._exit(1)
                raise
