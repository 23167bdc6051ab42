"""A worker group of one process that lets the user's project paint; speaks the ranks' protocol."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN
from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.lifetime import die_with_parent
from hidream_server.ipc.messages import (
    CancelTask,
    GroupReady,
    Hello,
    ImageDone,
    LoadProject,
    StartTask,
    StepDone,
    TaskBegun,
    TaskDone,
    TaskFailed,
)
from hidream_server.ipc.reporting import report_logs
from hidream_server.layouts.layout import Layout
from hidream_server.logs import log_context
from hidream_server.project.command import Project
from hidream_server.project.runner import ProjectFailedError, ProjectRunner

logger = logging.getLogger(__name__)


def main() -> None:
    die_with_parent()
    host, _, port = os.environ[CONTROL_ADDRESS].rpartition(":")
    channel = RankChannel.connect(host, int(port))
    channel.send(Hello(token=os.environ[CONTROL_TOKEN], rank=0))
    load = channel.receive()
    if not isinstance(load, LoadProject):
        return
    report_logs(channel, 0, load.log_level)
    project = Project(
        path=Path(load.project_path),
        model_path=load.model_path,
        extra_model_path=load.extra_model_path,
    )
    worker = ProjectWorker(channel, project, Layout.parse(load.layout), Path(load.work_path))
    threading.Thread(target=worker.read_commands, daemon=True).start()
    channel.send(GroupReady(load_s=0.0, memory_bytes=0))
    worker.serve()


class ProjectWorker:
    """Paints one task after the other; one that is cancelled is stopped, whatever it does."""

    def __init__(
        self, channel: RankChannel, project: Project, layout: Layout, work_path: Path
    ) -> None:
        self._channel = channel
        self._project = project
        self._layout = layout
        self._work_path = work_path
        self._tasks: queue.SimpleQueue[StartTask] = queue.SimpleQueue()
        #: By attempt, every task that was sent and has not been painted yet.
        self._runners: dict[tuple[str, int], ProjectRunner] = {}

    def read_commands(self) -> None:
        """Take in commands; end the process, and the project's, when there can be no more."""
        try:
            while True:
                match self._channel.receive():
                    case StartTask() as start:
                        runner = ProjectRunner(
                            self._project, self._layout, os.environ, self._work_path
                        )
                        self._runners[start.task_id, start.attempt] = runner
                        self._tasks.put(start)
                    case CancelTask(task_id=task_id, attempt=attempt):
                        if runner := self._runners.get((task_id, attempt)):
                            runner.stop()
                    case _:
                        return
        finally:
            os._exit(0)

    def serve(self) -> None:
        while True:
            start = self._tasks.get()
            with log_context(task=start.task_id):
                self._paint(start, self._runners[start.task_id, start.attempt])
            del self._runners[start.task_id, start.attempt]

    def _paint(self, start: StartTask, runner: ProjectRunner) -> None:
        who = {"task_id": start.task_id, "attempt": start.attempt}
        send, began = self._channel.send, time.perf_counter()
        send(TaskBegun(**who))
        try:
            pictures = runner.paint(start.params, _StepReports(start, send))
        except ProjectFailedError as error:
            if runner.stopped:
                return
            logger.error("The project did not paint the task: %s", error)
            send(TaskFailed(**who, reason=str(error)))
            return
        for index, data in enumerate(pictures):
            send(ImageDone(**who, image_index=index, data=data))
        send(TaskDone(**who, timings={"project_s": time.perf_counter() - began}))


class _StepReports:
    """Says how far a task is; how long steps take can be seen from the second one on."""

    def __init__(self, start: StartTask, send: Callable[[StepDone], None]) -> None:
        self._start = start
        self._send = send
        self._steps, self._at = 0, time.perf_counter()

    def __call__(self, steps: int) -> None:
        new, seconds = steps - self._steps, time.perf_counter() - self._at
        measured = new > 0 and self._steps > 0
        self._send(
            StepDone(
                task_id=self._start.task_id,
                attempt=self._start.attempt,
                steps_done=steps,
                rows=self._start.params.image_rows if measured else 0,
                step_s=seconds / new if measured else 0.0,
            )
        )
        if new > 0:
            self._steps, self._at = steps, time.perf_counter()


if __name__ == "__main__":
    main()
