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
RADIUS = {"small": 0.1, "medium": 0.155, "large": 0.23}
_COLUMN = {"left": 0.24, "right": 0.76}
_ROW = {"top": 0.24, "bottom": 0.76}
_JITTER = 6


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


def _centre(
    canvas: Canvas, place: str, radius: float, rng: np.random.Generator
) -> tuple[float, float]:
    words = place.split()
    column = next((_COLUMN[word] for word in words if word in _COLUMN), 0.5)
    row = next((_ROW[word] for word in words if word in _ROW), 0.5)
    margin = 1.32 * radius
    x = column * canvas.width + rng.uniform(-0.02, 0.02)
    y = row * canvas.height + rng.uniform(-0.02, 0.02)
    return (
        float(np.clip(x, margin, canvas.width - margin)),
        float(np.clip(y, margin, canvas.height - margin)),
    )


def paint_object(canvas: Canvas, scene: ObjectScene, rng: np.random.Generator) -> None:
    canvas.blend(1.0, _jittered(scene.background, rng))
    radius = RADIUS[scene.size] * rng.uniform(0.94, 1.06)
    centre = _centre(canvas, scene.place, radius, rng)
    outline = partial(_SHAPES[scene.shape], radius=radius)
    canvas.fill_near(outline, centre, 1.6 * radius, _jittered(scene.colour, rng))
