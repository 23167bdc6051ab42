"""One form for all log lines, with what each is about: its task, its rank, its request.

Knows where log lines go; knows nothing of what they report.
"""

import json
import logging
import logging.handlers
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "%(asctime)s %(levelname)-7s [%(about)s] %(name)s: %(message)s"
#: How many runs' log files are kept.
RUNS_KEPT = 20

_task: ContextVar[str | None] = ContextVar("task", default=None)
_rank: ContextVar[int | None] = ContextVar("rank", default=None)
_request: ContextVar[str | None] = ContextVar("request", default=None)


@contextmanager
def log_context(
    task: str | None = None, rank: int | None = None, request: str | None = None
) -> "Iterator[None]":
    """Name the task, the rank and the request that the lines logged inside are about."""
    named: list[tuple[ContextVar[Any], object]] = [
        (_task, task),
        (_rank, rank),
        (_request, request),
    ]
    tokens = [(variable, variable.set(name)) for variable, name in named if name is not None]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def current_task() -> str | None:
    """Return the task that the current context logs about."""
    return _task.get()


class LineFormatter(logging.Formatter):
    """Puts time, task and rank on every line of a record, a traceback's lines too."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        about = {"task": "-", "rank": "-"} | _context()
        record.about = " ".join(f"{name}={value}" for name, value in about.items())
        text = super().format(record)
        first, *others = text.splitlines() or [""]
        prefix = first[: first.index(": ") + 2] if others else ""
        return "\n".join([first, *(prefix + line for line in others)])


class JsonFormatter(logging.Formatter):
    """Makes a record one JSON object on one line; what it is not about is left out."""

    def format(self, record: logging.LogRecord) -> str:
        time_utc = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": time_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_context(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        # ASCII: a message may hold lone surrogates, which no file can.
        return json.dumps(fields)


def _context() -> dict[str, object]:
    found = {"task": _task.get(), "rank": _rank.get(), "request": _request.get()}
    return {name: value for name, value in found.items() if value is not None}


def set_up_logs(folder: Path, level: str, file_bytes: int, form: str = "text") -> logging.Handler:
    """Send all logs to the console, `startup.log` and this run's own file, as text or json.

    Returns the start-up handler, to be given to `end_startup_log` once the service is up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run_file = folder / time.strftime("hidream_api_%Y%m%d_%H%M%S.log")
    startup = _rotating(folder / "startup.log", file_bytes)
    handlers = [logging.StreamHandler(sys.stderr), _rotating(run_file, file_bytes), startup]
    root = logging.getLogger()
    root.setLevel("WARNING")
    logging.getLogger("hidream_server").setLevel(level)
    formatter = JsonFormatter() if form == "json" else LineFormatter()
    for handler in handlers:
        handler.setFormatter(formatter)
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
