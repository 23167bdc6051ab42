"""Paints one flat shape on a plain background."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ..scene import ObjectScene
from .canvas import Array, Canvas, box, disc, polygon

PALETTE = {
    "red": (214, 40, 40),
    "orange": (245, 132, 31),
    "yellow": (250, 215, 50),
    "green": (46, 150, 70),
    "blue": (40, 90, 205),
    "purple": (125, 55, 165),
    "pink": (245, 150, 190),
    "white": (246, 246, 246),
    "black": (22, 22, 24),
}
RADIUS = {"small": 0.12, "medium": 0.175, "large": 0.25}
_COLUMN = {"left": 0.24, "right": 0.76}
_ROW = {"top": 0.24, "bottom": 0.76}
_JITTER = 6
#: How far a centre strays, and by which share a radius does: enough to tell seeds apart.
_SHIFT, _SWELL = 0.008, 0.03


def _star(dx: Array, dy: Array, radius: float) -> Array:
    corners = []
    for n in range(10):
        reach = radius * (1.42 if n % 2 == 0 else 0.6)
        angle = math.pi * n / 5
        corners.append((reach * math.sin(angle), -reach * math.cos(angle)))
    return polygon(dx, dy - 0.06 * radius, corners)


def _square(dx: Array, dy: Array, radius: float) -> Array:
    return box(dx, dy, 0.9 * radius)


def _triangle(dx: Array, dy: Array, radius: float) -> Array:
    half, top, base = 1.25 * radius, -1.15 * radius, 1.0 * radius
    return polygon(dx, dy, [(0.0, top), (half, base), (-half, base)])


def _heart(dx: Array, dy: Array, radius: float) -> Array:
    # A square on its corner with a half disc on each of its upper sides.
    half = 0.62 * radius
    slant, down = half / math.sqrt(2), dy - 0.18 * radius
    turned = box((dx + down) / math.sqrt(2), (dx - down) / math.sqrt(2), half)
    lobes = disc(np.abs(dx) - slant, down + slant, half)
    return np.minimum(turned, lobes)


_SHAPES: dict[str, Callable[..., Array]] = {
    "circle": disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
}


def _jittered(colour: str, rng: np.random.Generator) -> Array:
    return np.array(PALETTE[colour], np.float32) + rng.uniform(-_JITTER, _JITTER, 3)


def middle(scene: ObjectScene, height: float, width: float) -> tuple[float, float]:
    """Return x and y of where the shape belongs, in units of the shorter side."""
    words = scene.place.split()
    column = next((_COLUMN[word] for word in words if word in _COLUMN), 0.5)
    row = next((_ROW[word] for word in words if word in _ROW), 0.5)
    margin = 1.32 * RADIUS[scene.size]
    x = float(np.clip(column * width, margin, width - margin))
    y = float(np.clip(row * height, margin, height - margin))
    return x, y


def paint_object(canvas: Canvas, scene: ObjectScene, rng: np.random.Generator) -> None:
    canvas.blend(1.0, _jittered(scene.background, rng))
    radius = RADIUS[scene.size] * rng.uniform(1 - _SWELL, 1 + _SWELL)
    x, y = middle(scene, canvas.height, canvas.width)
    centre = x + rng.uniform(-_SHIFT, _SHIFT), y + rng.uniform(-_SHIFT, _SHIFT)
    outline = partial(_SHAPES[scene.shape], radius=radius)
    canvas.fill_near(outline, centre, 1.6 * radius, _jittered(scene.colour, rng))


def object_emphasis(scene: ObjectScene, rows: int, columns: int) -> Array:
    """Return 1 for the cells of a grid that the shape may touch, 0 for the others."""
    unit = min(rows, columns)
    height, width = rows / unit, columns / unit
    x, y = middle(scene, height, width)
    reach = 1.45 * RADIUS[scene.size] + 0.5 / unit
    down = np.abs((np.arange(rows) + 0.5) / unit - y) < reach
    across = np.abs((np.arange(columns) + 0.5) / unit - x) < reach
    return (down[:, None] & across).astype(np.float32)
