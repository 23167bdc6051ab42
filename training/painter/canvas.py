"""A picture in the making: coordinates, and antialiased fills of signed distances.

Lengths are in units of the shorter side; x grows to the right and y downwards from the top left.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Colour = tuple[float, float, float] | Array
#: Signed distance, negative inside, from coordinates relative to a centre.
Shape = Callable[[Array, Array], Array]

#: Width of an edge in pixels: a little soft, as a camera's is.
_EDGE_PIXELS = 2.0


class Canvas:
    """Colours of every pixel, with the coordinates to compute them from."""

    def __init__(self, height: int, width: int) -> None:
        unit = min(height, width)
        self.height, self.width = height / unit, width / unit
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / unit)[None, :]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / unit)[:, None]
        self._edge = _EDGE_PIXELS / unit
        self.colours = np.zeros((height, width, 3), np.float32)

    def coverage(self, distance: Array) -> Array:
        """Return how much of each pixel lies inside, where `distance` is negative."""
        return np.clip(0.5 - distance / self._edge, 0.0, 1.0)

    def blend(self, amount: Array | float, colour: Colour) -> None:
        """Mix `colour` in by `amount` (0 to 1) at every pixel."""
        paint = np.asarray(colour, np.float32)
        share = np.asarray(amount, np.float32)[..., None]
        self.colours += share * (paint - self.colours)

    def fill(self, distance: Array, colour: Colour, opacity: float = 1.0) -> None:
        self.blend(self.coverage(distance) * opacity, colour)

    def fill_near(
        self, shape: Shape, centre: tuple[float, float], reach: float, colour: Colour
    ) -> None:
        """Fill `shape` where it can be seen: within `reach` of its centre."""
        cx, cy = centre
        xs = np.flatnonzero(np.abs(self.x[0] - cx) <= reach)
        ys = np.flatnonzero(np.abs(self.y[:, 0] - cy) <= reach)
        if not len(xs) or not len(ys):
            return
        window = (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
        distance = shape(self.x[:, window[1]] - cx, self.y[window[0]] - cy)
        share = self.coverage(distance)[..., None]
        self.colours[window] += share * (np.asarray(colour, np.float32) - self.colours[window])

    def pixels(self) -> Array:
        return np.clip(self.colours + 0.5, 0, 255).astype(np.uint8)


def disc(dx: Array, dy: Array, radius: float) -> Array:
    return np.hypot(dx, dy) - radius


def box(dx: Array, dy: Array, half: float) -> Array:
    return np.maximum(np.abs(dx), np.abs(dy)) - half


def polygon(dx: Array, dy: Array, corners: list[tuple[float, float]]) -> Array:
    """Return the signed distance to a simple polygon, negative inside."""
    nearest = np.full(np.broadcast_shapes(dx.shape, dy.shape), np.inf, np.float32)
    inside = np.zeros(nearest.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((dx - ax) * ex + (dy - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        nearest = np.minimum(nearest, np.hypot(dx - ax - along * ex, dy - ay - along * ey))
        crosses = (dy < ay) != (dy < by)
        if ey:
            inside ^= crosses & (dx < ax + (dy - ay) * ex / ey)
    return np.where(inside, -nearest, nearest)
