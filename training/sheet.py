"""Lays pictures out on contact sheets, and says what the documentation's sheets show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

_SQUARE = (512, 512)
_LARGE = (1024, 1024)
_WIDE = (768, 1024)
_TALL = (1024, 768)

#: For each sheet: its columns, and prompts with the height and width to paint them in.
SHEETS: dict[str, tuple[int, list[tuple[str, tuple[int, int]]]]] = {
    "prompts": (
        4,
        [
            ("a red circle on a blue background, top left", _SQUARE),
            ("a large yellow star on purple", _SQUARE),
            ("small white heart, right, green background", _SQUARE),
            ("an orange triangle at the bottom of a black background", _SQUARE),
            ("a peaceful lake and snowy mountains at night with stars", _SQUARE),
            ("the sea at sunset with the sun", _SQUARE),
            ("purple mountains, clouds, trees and a flower meadow", _SQUARE),
            ("wheat fields under a blue sky with the sun", _SQUARE),
            ("a big pink square in the middle, white background", _SQUARE),
            ("a small black circle in the bottom right corner, orange background", _SQUARE),
            ("brown mountains with snow and a lake on a clear day", _SQUARE),
            ("a full moon over the ocean, by night", _SQUARE),
        ],
    ),
    "sizes": (
        3,
        [
            ("a beautiful landscape with snowy mountains, a lake and the sun", _LARGE),
            ("blue mountains, pine trees and a lake at dusk", _WIDE),
            ("the moon, stars and the sea at night", _TALL),
            ("a green heart on a yellow background", _LARGE),
            ("a large white star on the right, blue background", _WIDE),
            ("a red triangle at the top, white background", _TALL),
        ],
    ),
    "chinese": (
        4,
        [
            ("蓝色背景上左上角有一个红色的圆形", _SQUARE),
            ("一个大黄色五角星，紫色背景", _SQUARE),
            ("绿色背景，白色的爱心在右边", _SQUARE),
            ("黑色背景上有一个小橙色三角形", _SQUARE),
            ("日落时分的雪山和湖", _SQUARE),
            ("夜空下的大海，有圆月和星星", _SQUARE),
            ("美丽的风景，绿色的山、白云和花田", _SQUARE),
            ("白天的太阳和大海", _SQUARE),
        ],
    ),
    "documentation": (
        4,
        [
            ("A beautiful landscape with mountains and lakes at sunset", _LARGE),
            ("A mountain landscape", _LARGE),
            ("A beautiful sunset over a mountain landscape", _SQUARE),
            ("A beautiful sunset", _SQUARE),
        ],
    ),
}


def contact_sheet(pictures: Sequence[np.ndarray], columns: int, cell: int = 256) -> Image.Image:
    """Scale each picture into a square cell and return them all, row by row."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * cell), (32, 32, 32))
    for n, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels)
        picture.thumbnail((cell - 4, cell - 4), Image.Resampling.LANCZOS)
        left = n % columns * cell + (cell - picture.width) // 2
        top = n // columns * cell + (cell - picture.height) // 2
        sheet.paste(picture, (left, top))
    return sheet
