"""Pictures as files in one folder, written whole or not at all.

Names carry task, attempt and image, so that two attempts never write the same file.
"""

import re
from pathlib import Path

from hidream_server.store.whole_files import drop_unfinished, write_whole
from hidream_server.task import TASK_ID

_NAME = re.compile(rf"(?P<task>{TASK_ID})_(?P<attempt>\d+)_\d+\.png")


def picture_name(task_id: str, attempt: int, image_index: int) -> str:
    return f"{task_id}_{attempt}_{image_index}.png"


def task_of(name: str) -> str | None:
    """Return the id of the task a picture name belongs to, None if it is no picture name."""
    match = _NAME.fullmatch(name)
    return match["task"] if match else None


def attempt_of(name: str) -> int | None:
    """Return the attempt that made a picture, None if it is no picture name."""
    match = _NAME.fullmatch(name)
    return int(match["attempt"]) if match else None


class PictureFolder:
    """Finished pictures on the local disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        drop_unfinished(folder)

    def put(self, name: str, data: bytes) -> None:
        """Write a picture; it is on the disk under its name when this returns."""
        write_whole(self._folder / name, data, durable=True)

    def path(self, name: str) -> Path | None:
        """Return the file of a picture, None if there is none or it leads out of the folder."""
        path = self._folder / name
        if task_of(name) is None or path.is_symlink() or not path.is_file():
            return None
        return path

    def names(self) -> list[str]:
        """Return the names of all files, pictures or not."""
        return sorted(path.name for path in self._folder.iterdir())

    def drop(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)
