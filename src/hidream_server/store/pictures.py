"""Names of pictures, previews and checkpoints, which tell whose they are.

A picture's carries task, attempt and image, so that two attempts never write the same one.
"""

import re

from hidream_server.task import TASK_ID

_NAME = re.compile(rf"(?P<task>{TASK_ID})_(?P<attempt>\d+)_\d+\.png")
_CHECKPOINT = re.compile(rf"(?P<task>{TASK_ID})")
_PREVIEW = re.compile(rf"(?P<task>{TASK_ID})_\d+")


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


def preview_key(task_id: str, image_index: int) -> str:
    return f"{task_id}_{image_index}"


def task_of_preview(name: str) -> str | None:
    """Return the id of the task that a preview shows, None if it is no preview's name."""
    match = _PREVIEW.fullmatch(name)
    return match["task"] if match else None


def task_of_checkpoint(name: str) -> str | None:
    """Return the id of the task that may go on from a checkpoint, None if it is none's name."""
    match = _CHECKPOINT.fullmatch(name)
    return match["task"] if match else None
