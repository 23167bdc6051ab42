"""Names of pictures, previews and checkpoints, which tell whose they are.

Each carries task and attempt, so that two attempts never write or drop the same one.
"""

import re

from hidream_server.store.statements import Claim
from hidream_server.task import TASK_ID

_PICTURE = re.compile(rf"(?P<task>{TASK_ID})_(?P<attempt>\d+)_\d+\.png")
_PREVIEW = re.compile(rf"(?P<task>{TASK_ID})_(?P<attempt>\d+)_\d+")
_CHECKPOINT = re.compile(rf"(?P<task>{TASK_ID})_(?P<attempt>\d+)")


def picture_name(task_id: str, attempt: int, image_index: int) -> str:
    return f"{task_id}_{attempt}_{image_index}.png"


def claim_of_picture(name: str) -> Claim | None:
    """Return the task and the attempt that made a picture, None if it is no picture's name."""
    return _claim(_PICTURE.fullmatch(name))


def preview_key(task_id: str, attempt: int, image_index: int) -> str:
    return f"{task_id}_{attempt}_{image_index}"


def claim_of_preview(name: str) -> Claim | None:
    """Return the task and the attempt that a preview shows, None if it is no preview's name."""
    return _claim(_PREVIEW.fullmatch(name))


def checkpoint_key(task_id: str, attempt: int) -> str:
    return f"{task_id}_{attempt}"


def claim_of_checkpoint(name: str) -> Claim | None:
    """Return the task and the attempt that made a checkpoint, None if it is none's name."""
    return _claim(_CHECKPOINT.fullmatch(name))


def _claim(match: re.Match[str] | None) -> Claim | None:
    return (match["task"], int(match["attempt"])) if match else None
