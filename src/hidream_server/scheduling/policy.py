"""First come, first served: the oldest task's first unfinished image runs next.

One image a step: at full size a card is saturated by one, and its rows have the same batch
shape alone and in company, so its picture is the same to the bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ActiveImage:
    """An image that has steps left. Tasks are numbered in the order in which they came."""

    task_number: int
    image_index: int


def next_image(active: Sequence[ActiveImage]) -> ActiveImage | None:
    """Return the image whose step runs next, None if there is none."""
    return min(active, key=lambda image: (image.task_number, image.image_index), default=None)
