"""Paints scenes as pictures; the same seed always gives the same picture."""

from __future__ import annotations

import numpy as np

from ..scene import ObjectScene, Scene
from .canvas import Canvas
from .landscapes import paint_landscape
from .objects import object_emphasis, paint_object

__all__ = ["emphasis", "paint"]


def paint(scene: Scene, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return the picture as uint8 [height, width, 3]."""
    canvas = Canvas(height, width)
    if isinstance(scene, ObjectScene):
        paint_object(canvas, scene, rng)
    else:
        paint_landscape(canvas, scene, rng)
    return canvas.pixels()


def emphasis(scene: Scene, rows: int, columns: int) -> np.ndarray:
    """Return float32 [rows, columns]: 1 where a caption says that something small must be."""
    if isinstance(scene, ObjectScene):
        return object_emphasis(scene, rows, columns)
    return np.zeros((rows, columns), np.float32)
