"""One line format for every log, with the task and the rank on each line.

Knows where log lines go; knows nothing of what they report.
"""

import logging
import logging.handlers
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "%(asctime)s %(levelname)-7s [task=%(task)s rank=%(rank)s] %(name)s: %(message)s"
#: How many runs' log files are kept.
RUNS_KEPT = 20

_task: ContextVar[str] = ContextVar("task", default="-")
_rank: ContextVar[str] = ContextVar("rank", default="-")


@contextmanager
def log_context(task: str | None = None, rank: int | None = None) -> "Iterator[None]":
    """Name the task and the rank that the lines logged inside are about."""
    tokens = []
    if task is not None:
        tokens.append((_task, _task.set(task)))
    if rank is not None:
        tokens.append((_rank, _rank.set(str(rank))))
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def current_task() -> str | None:
    """Return the task that the current context logs about."""
    task = _task.get()
    return None if task == "-" else task


class LineFormatter(logging.Formatter):
    """Puts time, task and rank on every line of a record, a traceback's lines too."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        first, *others = text.splitlines() or [""]
        prefix = first[: first.index(": ") + 2] if others else ""
        return "\n".join([first, *(prefix + line for line in others)])


class ContextFilter(logging.Filter):
    """Put the context's task and rank on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.task = _task.get()
        record.rank = _rank.get()
        return True


def set_up_logs(folder: Path, level: str, file_bytes: int) -> logging.Handler:
    """Send all logs to the console, `startup.log` and this run's own file.

    Returns the start-up handler, to be given to `end_startup_log` once the service is up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run_file = folder / time.strftime("hidream_api_%Y%m%d_%H%M%S.log")
    startup = _rotating(folder / "startup.log", file_bytes)
    handlers = [logging.StreamHandler(sys.stderr), _rotating(run_file, file_bytes), startup]
    root = logging.getLogger()
    root.setLevel("WARNING")
    logging.getLogger("hidream_server").setLevel(level)
    for handler in handlers:
        handler.setFormatter(LineFormatter(FORMAT))
        handler.addFilter(ContextFilter())
        root.addHandler(handler)
    _forget_old_runs(folder)
    return startup


def end_startup_log(startup: logging.Handler) -> None:
    """Stop writing to `startup.log`."""
    logging.getLogger().removeHandler(startup)
    startup.close()


def _rotating(path: Path, file_bytes: int) -> logging.Handler:
    return logging.handlers.RotatingFileHandler(
        path, maxBytes=file_bytes, backupCount=2, encoding="utf-8"
    )


def _forget_old_runs(folder: Path) -> None:
    runs = sorted(folder.glob("hidream_api_*.log"))
    for old in runs[:-RUNS_KEPT]:
        for part in folder.glob(old.name + "*"):
            part.unlink(missing_ok=True)
