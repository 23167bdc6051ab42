"""A worker group of one process that lets the user's project paint; speaks the ranks' protocol."""

import logging
import os
import queue
import threading
import time
from pathlib import Path

from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN
from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.lifetime import die_with_parent
from hidream_server.ipc.messages import (
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
    runner = ProjectRunner(project, Layout.parse(load.layout), os.environ)
    tasks: queue.SimpleQueue[StartTask] = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(channel, tasks), daemon=True).start()
    channel.send(GroupReady(load_s=0.0, memory_bytes=0))
    while True:
        _paint(channel, runner, tasks.get())


def _read_commands(channel: RankChannel, tasks: "queue.SimpleQueue[StartTask]") -> None:
    """Take in tasks; end the process, and the project's with it, when there can be no more."""
    try:
        while isinstance(command := channel.receive(), StartTask):
            tasks.put(command)
    finally:
        os._exit(0)


def _paint(channel: RankChannel, runner: ProjectRunner, start: StartTask) -> None:
    who = {"task_id": start.task_id, "attempt": start.attempt}
    channel.send(TaskBegun(**who))
    began = time.perf_counter()
    with log_context(task=start.task_id):
        try:
            pictures = runner.paint(
                start.params, lambda steps: channel.send(StepDone(**who, steps_done=steps))
            )
        except ProjectFailedError as error:
            logger.exception("The project did not paint the task")
            channel.send(TaskFailed(**who, reason=str(error)))
            return
    for index, data in enumerate(pictures):
        channel.send(ImageDone(**who, image_index=index, data=data))
    channel.send(TaskDone(**who, timings={"project_s": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
