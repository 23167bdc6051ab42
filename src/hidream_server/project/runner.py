"""Paints one task with the user's project: on all devices, and if that fails once on one."""

import logging
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from hidream_server.layouts.layout import Layout
from hidream_server.project.command import Project, build_command
from hidream_server.project.progress import Progress
from hidream_server.task import TaskParams

logger = logging.getLogger(__name__)

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
#: How many lines of output explain a failure.
_LINES_KEPT = 15


class ProjectFailedError(Exception):
    """The project did not paint the task; the message is the end of what it printed."""


class ProjectRunner:
    """Runs the project's script for one task.

    `environment` says which devices it may use; its files are in a folder inside `work_path`.
    """

    def __init__(
        self,
        project: Project,
        layout: Layout,
        environment: Mapping[str, str],
        work_path: Path | None = None,
    ) -> None:
        self._project = project
        self._layout = layout
        self._environment = dict(environment)
        self._work_path = work_path
        self._changing = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """End the script, from any thread; `paint` raises ProjectFailedError."""
        with self._changing:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def paint(self, params: TaskParams, step_done: Callable[[int], None]) -> list[bytes]:
        """Return the files of exactly this task's pictures; raise ProjectFailedError."""
        try:
            return self._run(params, self._layout, step_done)
        except ProjectFailedError as error:
            if self._layout.ranks == 1 or self._stopped:
                raise
            logger.warning("Distributed inference failed, trying single device: %s", error)
            return self._run(params, Layout(), step_done)

    def _run(
        self, params: TaskParams, layout: Layout, step_done: Callable[[int], None]
    ) -> list[bytes]:
        # A folder of its own: what lies in it afterwards is this task's, and nothing else.
        with TemporaryDirectory(dir=self._work_path) as folder:
            command = build_command(self._project, params, layout, Path(folder))
            printed = self._follow(command, params, step_done)
            try:
                return _collect(Path(folder), params)
            except ProjectFailedError as error:
                raise ProjectFailedError(f"{error} It printed: {printed}") from error

    def _follow(
        self, command: list[str], params: TaskParams, step_done: Callable[[int], None]
    ) -> str:
        """Run the script to its end; return the end of what it printed."""
        progress = Progress(params.num_inference_steps, params.num_images)
        lines: deque[str] = deque(maxlen=_LINES_KEPT)
        with subprocess.Popen(
            command,
            cwd=self._project.path,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            self._started(process)
            assert process.stdout is not None
            # Text mode reads the bars' carriage returns as ends of lines.
            for line in process.stdout:
                lines.append(line.rstrip())
                logger.debug("%s", line.rstrip())
                # Whatever it prints is a sign of life, also while it loads the model.
                step_done(progress.read(line))
        printed = " / ".join(lines)
        if self._stopped:
            raise ProjectFailedError("it was stopped")
        if process.returncode != 0:
            raise ProjectFailedError(
                f"inference.py ended with code {process.returncode}: {printed}"
            )
        return printed

    def _started(self, process: subprocess.Popen[str]) -> None:
        with self._changing:
            self._process = process
            if self._stopped:
                process.kill()


def _collect(folder: Path, params: TaskParams) -> list[bytes]:
    """Return the pictures in the order in which they were made."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES]
    if len(found) != params.num_images:
        raise ProjectFailedError(
            f"inference.py left {len(found)} pictures of {params.num_images} in its --save_dir."
        )
    for path in found:
        with Image.open(path) as picture:
            if picture.size != (params.width, params.height):
                raise ProjectFailedError(
                    f"inference.py painted {picture.width}x{picture.height},"
                    f" not {params.width}x{params.height}."
                )
    found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    return [path.read_bytes() for path in found]
