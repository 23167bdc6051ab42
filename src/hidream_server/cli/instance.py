"""One server owns a data directory; others can find it and ask it to stop.

The lock on the PID file is the truth, not the number in it: it goes with its process, so no
process that this server did not start is ever signalled.
"""

import contextlib
import fcntl
import math
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from hidream_server.errors import AlreadyRunningError, ConfigurationError, NotRunningError
from hidream_server.store.whole_files import write_whole

_PID_FILE = "server.pid"
_NAME_FILE = "server.name"
_POLL_S = 0.1


def claim_instance(data_dir: Path) -> IO[str]:
    """Make this process the owner of a data directory for as long as the file is open."""
    # Prompts and secrets are nobody else's business.
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (data_dir / _PID_FILE).open("a+")
    if not _try_lock(file):
        with file:
            raise _taken(data_dir, file)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def claim_free(folder: Path) -> tuple[Path, IO[str]]:
    """Make this process the owner of the first data directory in a folder that has none.

    So whoever comes after a process that has died has its name, and what it had found out.
    """
    number = 0
    while True:
        data_dir = folder / str(number)
        with contextlib.suppress(AlreadyRunningError):
            return data_dir, claim_instance(data_dir)
        number += 1


def check_free(data_dir: Path) -> None:
    """Raise AlreadyRunningError if a data directory has an owner."""
    path = data_dir / _PID_FILE
    try:
        with path.open() as file:
            if not _try_lock(file):
                raise _taken(data_dir, file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # None is there; or it is a folder that cannot be used anyway, which others say.
        return


def stop_instance(
    data_dir: Path,
    patience_s: float = math.inf,
    announce: Callable[[int], None] = lambda _pid: None,
) -> int:
    """Ask the owner of a data directory to stop and wait until it has; return its process id.

    The owner bounds its own drain, so whoever stops it may wait without a bound.
    """
    path = data_dir / _PID_FILE
    where = data_dir.absolute()
    if not path.exists():
        raise NotRunningError(f"No server runs on {where}.")
    with path.open("r+") as file:
        if _try_lock(file):
            raise NotRunningError(f"No server runs on {where}.")
        pid = _pid(file)
        if pid is None:
            raise ConfigurationError(f"The server on {data_dir} is only just starting; try again.")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        announce(pid)
        deadline = time.monotonic() + patience_s
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise ConfigurationError(f"Process {pid} has not stopped in {patience_s:.0f} s.")
            time.sleep(_POLL_S)
    return pid


def instance_name(data_dir: Path) -> str:
    """Return the name of whoever serves on a data directory; it outlives the process."""
    path = data_dir / _NAME_FILE
    if not path.exists():
        name = f"{socket.gethostname()[:40]}-{secrets.token_hex(6)}"
        # Half a name would be another's, or nobody's.
        write_whole(path, name.encode(), durable=True)
    return path.read_text(encoding="utf-8")


def _taken(data_dir: Path, file: IO[str]) -> AlreadyRunningError:
    return AlreadyRunningError(
        f"A server (process {_pid(file)}) already uses {data_dir}:"
        " stop it with --stop, or choose another --data-dir."
    )


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(file: IO[str]) -> int | None:
    """Return the owner's process id, None while it has not written it yet."""
    file.seek(0)
    text = file.read()
    return int(text) if re.fullmatch("[1-9][0-9]*", text) else None
