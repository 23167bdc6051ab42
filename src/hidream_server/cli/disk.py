"""Looks, before anything is written, whether a folder can be written, and how much room it has."""

import os
import shutil
from pathlib import Path

from hidream_server.errors import FolderUnwritableError


def check_folder(folder: Path, flag: str) -> None:
    """Raise FolderUnwritableError, in one sentence, for one that cannot be made or written."""
    there = _nearest(folder)
    if not there.is_dir():
        raise FolderUnwritableError(
            f"{there} is a file, so that there can be no folder {folder}: choose another {flag}."
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise FolderUnwritableError(
            f"{there} cannot be written by this user: choose another {flag}, or allow it."
        )


def free_bytes(folder: Path) -> int:
    """Return the room there is for a folder, which need not be there yet."""
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(folder: Path) -> Path:
    """Return the folder, or that one above it that is there."""
    folder = folder.absolute()
    # Path.exists raises where one may not even look.
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))
