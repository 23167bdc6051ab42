"""Files that are there whole or not at all, whatever ends the process that writes them."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

#: What was begun is given up after so many seconds: until then somebody may be writing it, on
#: another machine too, whose clock may differ.
_GIVEN_UP_S = 3600.0


def write_whole(path: Path, data: bytes, durable: bool = False, new: bool = False) -> None:
    """Put a file in place of what is there; if `durable`, it is on the disk when this returns.

    Raises OSError, and leaves nothing of its own behind then: FileExistsError if it is to be `new`
    and there is something.
    """
    # Of its own: two processes may be writing the same file.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if new:
            # A rename would take the place of what came meanwhile.
            path.hardlink_to(unfinished)
        else:
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    if durable:
        _sync_names(path.parent)


def drop_unfinished(folder: Path) -> None:
    """Delete what processes that were killed had begun to write; what is young may be in use."""
    oldest = time.time() - _GIVEN_UP_S
    for path in folder.glob(".*.part"):
        # Others may be about the same, or have just finished it.
        with suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()


def _sync_names(folder: Path) -> None:
    names = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)
