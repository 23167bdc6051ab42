"""The rank loop: load the model, then turn by turn do what rank 0 decides, until told to leave.

A turn drops tasks, admits some, and runs one step. The loop waits for nobody: files are made by a
thread beside it, commands are read by another.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hidream_server.devices.choice import KINDS
from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.messages import (
    CancelTask,
    Command,
    GroupReady,
    LoadFailed,
    LoadModel,
    StartTask,
    Stop,
)
from hidream_server.ipc.reporting import report_logs
from hidream_server.layouts.layout import Layout
from hidream_server.logs import log_context
from hidream_server.model_directory.reading import describe
from hidream_server.parallel.place import take_place
from hidream_server.pipeline.png import encode_png
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.policy import ActiveTask, next_task
from hidream_server.worker.assembly import assemble
from hidream_server.worker.broadcast import Broadcast
from hidream_server.worker.device import open_device
from hidream_server.worker.model_runner import ModelRunner
from hidream_server.worker.outbox import Outbox, first_line
from hidream_server.worker.task_run import TaskRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """What all ranks do next."""

    admit: list[StartTask] = field(default_factory=list)
    cancel: list[CancelTask] = field(default_factory=list)
    #: Number of the task whose next step is run.
    step: int | None = None
    leave: bool = False


class Worker:
    """One rank of a worker group."""

    def __init__(self, channel: RankChannel, rank: int) -> None:
        self._channel = channel
        self._rank = rank
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._runs: dict[int, TaskRun] = {}
        self._admitted = 0
        self._pace = Pace()
        self._loaded = threading.Event()
        self._outbox = Outbox(channel, rank)

    def run(self) -> None:
        """Serve until told to stop; leave at once when the supervisor goes."""
        load = self._channel.receive()
        if not isinstance(load, LoadModel):
            return
        report_logs(self._channel, self._rank, load.log_level)
        threading.Thread(target=self._read_commands, daemon=True).start()
        self._checkpoint_s = load.checkpoint_s
        kind = KINDS[load.device_type]
        self._together = Layout.parse(load.layout).ranks > 1
        self._broadcast: Broadcast[Turn] = Broadcast(kind.name, kind.backend)
        if not self._load(load):
            return
        while not (
            turn := self._broadcast.share(self._decide() if self._rank == 0 else None)
        ).leave:
            self._take(turn)
        self._outbox.close()
        self._broadcast.close()

    def _load(self, load: LoadModel) -> bool:
        """Load the model; once all ranks are warm, rank 0 says so. On failure say why."""
        start = time.perf_counter()
        for stage in (partial(self._load_weights, load), self._warm_up):
            try:
                stage()
            except Exception as error:
                logger.exception("The model could not be loaded")
                self._channel.send(LoadFailed(reason=first_line(error)))
                return False
            # Ranks read files at different speeds; collectives on devices would not wait for long.
            self._broadcast.wait_for_all()
        if self._rank == 0:
            load_s = time.perf_counter() - start
            self._channel.send(GroupReady(load_s=load_s, memory_bytes=self._runner.memory_bytes()))
        self._loaded.set()
        return True

    def _load_weights(self, load: LoadModel) -> None:
        self._runner = _load_runner(load)

    def _warm_up(self) -> None:
        logger.info("Warm after %.2f s", self._runner.warm_up())

    def _read_commands(self) -> None:
        """Take in commands; end the process when there can be no more.

        Whatever the other threads do then, even inside a load or a collective, ends with it.
        """
        try:
            while (command := self._channel.receive()) is not None:
                if isinstance(command, Stop) and not self._loaded.is_set():
                    os._exit(0)
                self._commands.put(command)
        finally:
            os._exit(1)

    # Deciding: rank 0 only

    def _decide(self) -> Turn:
        """Take in the commands that have come, and wait for one if there is nothing to run."""
        admit: list[StartTask] = []
        cancel: list[CancelTask] = []
        while not self._commands.empty() or not (self._runs or admit):
            match self._commands.get():
                case Stop():
                    return Turn(leave=True)
                case StartTask() as start:
                    admit.append(start)
                case CancelTask() as unwanted:
                    cancel.append(unwanted)
        chosen = next_task(
            self._active(run) for run in self._runs.values() if not run.is_in(cancel)
        )
        return Turn(admit, cancel, None if chosen is None else chosen.number)

    def _active(self, run: TaskRun) -> ActiveTask:
        step_s = self._pace.step_s(run.start.params.step_cost)
        return ActiveTask(run.number, run.start.arrived_at, run.steps_left * step_s)

    # Doing: all ranks alike

    def _take(self, turn: Turn) -> None:
        for run in [run for run in self._runs.values() if run.is_in(turn.cancel)]:
            run.given_up = True
            del self._runs[run.number]
        for start in turn.admit:
            self._admitted += 1
            run = TaskRun(start, self._admitted)
            if run.is_in(turn.cancel):
                continue
            with self._guard(run):
                self._begin(run)
        if turn.step is not None:
            run = self._runs[turn.step]
            with self._guard(run):
                self._advance(run, run.next_image)

    @contextmanager
    def _guard(self, run: TaskRun) -> Iterator[None]:
        """Let what goes wrong with one task fail that task, not the group.

        A device that is broken for good ends the rank instead: no other task must suffer from it.
        So does any error where ranks work together: the others may be waiting for this one.
        """
        with log_context(task=run.start.task_id):
            try:
                yield
            except Exception as error:
                logger.exception("The task cannot go on")
                if self._together:
                    raise
                self._runner.check_device()
                self._runs.pop(run.number, None)
                self._outbox.failed(run, error)

    def _begin(self, run: TaskRun) -> None:
        self._outbox.begun(run)
        with run.stage("encode_s"):
            run.images = self._runner.begin(run.start.params)
        if run.start.checkpoint is not None:
            self._resume(run, run.start.checkpoint)
        self._runs[run.number] = run

    def _resume(self, run: TaskRun, checkpoint: bytes) -> None:
        """Go on from a checkpoint; where that cannot be, begin anew."""
        try:
            self._runner.resume(run.images, checkpoint)
        except ValueError as error:
            logger.warning("The task begins anew, its checkpoint is of no use: %s", error)
            return
        logger.info("The task goes on after step %d", run.steps_done)
        for index, image in enumerate(run.images):
            if image.finished:
                self._send_image(run, index)

    def _advance(self, run: TaskRun, image_index: int) -> None:
        """Take one image a step further; decode it after its last."""
        image, start = run.images[image_index], time.perf_counter()
        with run.stage("denoise_s"):
            self._runner.step(image)
        self._pace.measured(run.start.params.step_cost, time.perf_counter() - start)
        self._outbox.step_done(run)
        if image.finished:
            self._send_image(run, image_index)
        if run.finished:
            del self._runs[run.number]
            self._outbox.task_done(run)
        else:
            self._save(run)

    def _send_image(self, run: TaskRun, image_index: int) -> None:
        if self._rank != 0:
            return
        with run.stage("decode_s"):
            pixels = self._runner.decode(run.images[image_index])
        about = partial(self._runner.about, run.start.params, image_index)
        self._outbox.image_done(run, image_index, lambda: encode_png(pixels, about()))

    def _save(self, run: TaskRun) -> None:
        """Send a checkpoint, if the last one was some time ago."""
        now = time.monotonic()
        if self._rank == 0 and self._checkpoint_s and now - run.saved_at >= self._checkpoint_s:
            run.saved_at = now
            self._outbox.checkpoint(run, self._runner.checkpoint(run.images))


def _load_runner(load: LoadModel) -> ModelRunner:
    extra_path = None if load.extra_model_path is None else Path(load.extra_model_path)
    description = describe(Path(load.model_path), extra_path)
    kind = KINDS[load.device_type]
    device = open_device(kind, int(os.environ["LOCAL_RANK"]))
    place = take_place(Layout.parse(load.layout), int(os.environ["RANK"]))
    return assemble(
        description,
        place,
        device,
        kind.expert_product,
        load.prompt_cache_bytes,
        load.offloaded_encoders,
    )
