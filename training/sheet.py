"""Lays pictures out on one contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


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
