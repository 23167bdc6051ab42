"""Files that are there whole or not at all, whatever ends the process that writes them."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, durable: bool = False) -> None:
    """Put a file in place of what is there; if `durable`, it is on the disk when this returns.

    Raises OSError, and leaves nothing of its own behind then.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    if durable:
        _sync_names(path.parent)


def drop_unfinished(folder: Path) -> None:
    """Delete what processes that were killed had begun to write; only where none writes now."""
    for unfinished in folder.glob(".*.part"):
        unfinished.unlink()


def _sync_names(folder: Path) -> None:
    names = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)
