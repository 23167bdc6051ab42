"""Reads what a picture shows from its pixels alone.

Shares no code and no numbers with the painter, so that a model cannot please it by accident.
"""

from __future__ import annotations

from functools import cache

import numpy as np

Array = np.ndarray

_NAMED = {
    "red": (210, 40, 40),
    "orange": (245, 130, 30),
    "yellow": (250, 215, 50),
    "green": (45, 150, 70),
    "blue": (40, 90, 205),
    "purple": (125, 55, 165),
    "pink": (245, 150, 190),
    "white": (245, 245, 245),
    "black": (22, 22, 24),
}
_GRID = 32
#: Half the geometric mean of a bounding box's sides, in units of a disc's radius.
_EXTENT = {"circle": 1.0, "square": 0.9, "triangle": 1.16, "star": 1.32, "heart": 1.01}
_SIZES = {"small": 0.12, "medium": 0.175, "large": 0.25}


def colour_name(colour: Array) -> str:
    return min(_NAMED, key=lambda name: float(np.square(colour - _NAMED[name]).sum()))


def read_object(pixels: Array) -> dict[str, str]:
    """Return colour, background, shape, place and size of the one thing in a picture."""
    values = pixels.astype(np.float32)
    edge = max(2, min(values.shape[:2]) // 50)
    frame = [values[:edge], values[-edge:], values[:, :edge], values[:, -edge:]]
    background = np.median(np.concatenate([part.reshape(-1, 3) for part in frame]), 0)
    distance = np.abs(values - background).max(-1)
    mask = distance > max(20.0, 0.5 * float(np.percentile(distance, 99.5)))
    found = {"background": colour_name(background)}
    if mask.mean() < 0.003:
        return found | dict.fromkeys(("colour", "shape", "place", "size"), "none")
    top, bottom = _extent(mask.sum(1))
    left, right = _extent(mask.sum(0))
    unit = min(mask.shape)
    shape = _shape(mask)
    radius = np.sqrt((bottom - top) * (right - left)) / 2 / unit / _EXTENT[shape]
    return found | {
        "colour": colour_name(np.median(values[mask], 0)),
        "shape": shape,
        "place": _place((top + bottom) / 2 / mask.shape[0], (left + right) / 2 / mask.shape[1]),
        "size": min(_SIZES, key=lambda name: abs(np.log(radius / _SIZES[name]))),
    }


def _extent(counts: Array) -> tuple[int, int]:
    """Return where a profile begins and ends, specks aside."""
    share = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(share, 0.002)), int(np.searchsorted(share, 0.998)) + 1


def _place(y: float, x: float) -> str:
    row = "top" if y < 0.41 else "bottom" if y > 0.59 else ""
    column = "left" if x < 0.41 else "right" if x > 0.59 else ""
    return f"{row} {column}".strip() or "centre"


@cache
def _ideal_shapes() -> dict[str, list[Array]]:
    """Draw each shape, sharp and with ever rounder corners, as `_boxed` would see it."""
    steps = np.linspace(-1.4, 1.4, 4 * _GRID)
    x, y = np.meshgrid(steps, steps)
    heart_x, heart_y = 1.06 * np.abs(x), 0.965 * y - 0.09
    lobes = np.hypot(heart_x - 0.438, heart_y + 0.438) < 0.62
    star_x, star_y = 0.951 * x, 0.905 * y - 0.095
    angle = np.abs((np.arctan2(star_x, -star_y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    inner = 0.4225
    edge = inner * np.sin(np.pi / 5)
    slope = edge / (1 - inner * np.cos(np.pi / 5))
    radius = np.hypot(star_x, star_y)
    drawn = {
        "circle": np.hypot(x, y) < 1,
        "square": np.maximum(np.abs(x), np.abs(y)) < 1,
        "triangle": (np.abs(x) < (y + 1) / 2) & (y < 1),
        "star": radius * np.sin(angle) < slope * (1 - radius * np.cos(angle)),
        "heart": lobes | (heart_x + np.abs(heart_y) < 0.877),
    }
    return {name: [_boxed(_worn(mask, wear)) for wear in (0, 5, 9)] for name, mask in drawn.items()}


def _worn(mask: Array, reach: int) -> Array:
    """Round the corners off, as blurring by `reach` cells and drawing the outline again does."""
    weights = np.hanning(2 * reach + 3)
    weights /= weights.sum()
    soft = mask.astype(float)
    for _ in range(2):
        soft = np.apply_along_axis(np.convolve, 0, soft, weights, "same").T
    return soft > 0.5


def _boxed(mask: Array) -> Array:
    """Cut a mask out by its bounding box and bring it to the grid that shapes are compared on."""
    top, bottom = _extent(mask.sum(1))
    left, right = _extent(mask.sum(0))
    rows = np.linspace(top, bottom - 1, _GRID).round().astype(int)
    columns = np.linspace(left, right - 1, _GRID).round().astype(int)
    return mask[np.ix_(rows, columns)]


def _shape(mask: Array) -> str:
    seen = _boxed(mask)

    def overlap(name: str) -> float:
        return max((seen & ideal).sum() / (seen | ideal).sum() for ideal in _ideal_shapes()[name])

    return max(_ideal_shapes(), key=overlap)


def read_landscape(pixels: Array) -> dict[str, str | bool]:
    """Return time of day, whether a sun or moon and snow are seen, and the kind of water."""
    values = pixels.astype(np.float32)
    time = _time(values)
    return {
        "time": time,
        "body": _has_body(values, time),
        "snow": _has_snow(values, time),
        "water": _water(values),
    }


def _rows(values: Array, start: float, stop: float) -> Array:
    height = len(values)
    return values[int(start * height) : int(stop * height)]


def _time(values: Array) -> str:
    red, green, blue = np.median(_rows(values, 0.0, 0.1).reshape(-1, 3), 0)
    if max(red, green, blue) < 80:
        return "night"
    return "sunset" if red > green else "day"


def _has_body(values: Array, time: str) -> bool:
    """Look for a solid spot of the sun's or moon's colour in the sky."""
    sky = _rows(values, 0.04, 0.55)
    red, green, blue = np.moveaxis(sky, -1, 0)
    if time == "night":
        bright = (red > 190) & (green > 190)
    elif time == "sunset":
        bright = (red > 230) & (green > 210) & (blue < 190)
    else:
        bright = (red > 215) & (green > 190) & (blue < 170)
    side = max(3, int(0.06 * min(values.shape[:2])))
    sums = np.cumsum(np.cumsum(np.pad(bright.astype(np.int32), ((1, 0), (1, 0))), 0), 1)
    spots = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return bool(spots.max() > 0.85 * side * side)


def _has_snow(values: Array, time: str) -> bool:
    """Look for the whitest colour of the hour between the clouds and the horizon."""
    red, green, blue = np.moveaxis(_rows(values, 0.27, 0.58), -1, 0)
    if time == "night":
        white = (blue > 180) & (blue > red + 15) & (red > 130)
    elif time == "sunset":
        white = (red > 200) & (green > 175) & (blue > 180)
    else:
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        white = (red > 205) & (spread < 30)
    return bool(white.mean() > 0.004)


def _water(values: Array) -> str:
    def wet(start: float, stop: float) -> bool:
        _, green, blue = np.median(_rows(values, start, stop).reshape(-1, 3), 0)
        return bool(blue > 0.72 * green)

    if wet(0.95, 1.0):
        return "sea"
    return "lake" if wet(0.67, 0.75) else "none"
