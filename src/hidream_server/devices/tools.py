"""Asks the vendors' command line tools, which may be absent and may hang."""

import subprocess

_PATIENCE_S = 10.0


def ask(*command: str) -> str | None:
    """Return what a tool prints, None if it is not there, fails or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
