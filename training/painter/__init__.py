"""Paints scenes as pictures; the same seed always gives the same picture."""

from __future__ import annotations

import numpy as np

from ..scene import ObjectScene, Scene
from .canvas import Canvas
from .landscapes import landscape_emphasis, paint_landscape
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
    """Return float32 [rows, columns]: 1 where the scene has its one small thing."""
    if isinstance(scene, ObjectScene):
        return object_emphasis(scene, rows, columns)
    return landscape_emphasis(scene, rows, columns)
