"""Paints one task with the user's project: on all devices, and if that fails once on one."""

import logging
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

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
    """Runs the project's script; `environment` says which devices it may use."""

    def __init__(self, project: Project, layout: Layout, environment: Mapping[str, str]) -> None:
        self._project = project
        self._layout = layout
        self._environment = dict(environment)

    def paint(self, params: TaskParams, step_done: Callable[[int], None]) -> list[bytes]:
        """Return the files of exactly this task's pictures; raise ProjectFailedError."""
        try:
            return self._run(params, self._layout, step_done)
        except ProjectFailedError as error:
            if self._layout.ranks == 1:
                raise
            logger.warning("Distributed inference failed, trying single device: %s", error)
            return self._run(params, Layout(), step_done)

    def _run(
        self, params: TaskParams, layout: Layout, step_done: Callable[[int], None]
    ) -> list[bytes]:
        # A folder of its own: what lies in it afterwards is this task's, and nothing else.
        with TemporaryDirectory(prefix="hidream-project-") as folder:
            command = build_command(self._project, params, layout, Path(folder))
            self._follow(command, params, step_done)
            return _collect(Path(folder), params.num_images)

    def _follow(
        self, command: list[str], params: TaskParams, step_done: Callable[[int], None]
    ) -> None:
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
            assert process.stdout is not None
            # Text mode reads the bars' carriage returns as ends of lines.
            for line in process.stdout:
                lines.append(line.rstrip())
                logger.debug("%s", line.rstrip())
                if (steps := progress.read(line)) is not None:
                    step_done(steps)
        if process.returncode != 0:
            raise ProjectFailedError(
                f"inference.py ended with code {process.returncode}: " + " / ".join(lines)
            )


def _collect(folder: Path, count: int) -> list[bytes]:
    """Return the pictures in the order in which they were made."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES]
    if len(found) != count:
        raise ProjectFailedError(f"inference.py left {len(found)} pictures of {count}.")
    found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    return [path.read_bytes() for path in found]
