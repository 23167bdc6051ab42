"""Asks the vendors' command line tools, which may be absent and may hang, even in the driver."""

import contextlib
import subprocess

_PATIENCE_S = 10.0
_LAST_WAIT_S = 1.0


def ask(*command: str) -> str | None:
    """Return what a tool prints, None if it is not there, fails or takes too long."""
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:
        return None
    try:
        printed, _ = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        _end(process)
        return None
    return printed if process.returncode == 0 else None


def _end(process: "subprocess.Popen[str]") -> None:
    """Kill a tool, and wait only a little: one that hangs in the driver does not end."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_WAIT_S)
    if process.stdout is not None:
        process.stdout.close()
