"""Paints a landscape from the sky down: light, clouds, mountains, water, ground and trees.

Everything has its usual spot and strays a little from it: what may be anywhere, a small model
paints everywhere at once.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..scene import Landscape
from .canvas import Array, Canvas, disc, polygon

_SKY = {  # colour stops from the top of the picture to the horizon
    "day": ((82, 150, 226), (140, 192, 240), (206, 230, 247)),
    "sunset": ((92, 62, 128), (226, 104, 92), (255, 190, 96)),
    "night": ((10, 14, 42), (20, 28, 70), (44, 58, 112)),
}
_LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (0.88, 0.66, 0.58), "night": (0.3, 0.37, 0.42)}
_BODY = {"day": (255, 222, 84), "sunset": (255, 224, 120), "night": (236, 236, 208)}
_CLOUD = {"day": (250, 251, 253), "sunset": (250, 176, 150), "night": (70, 82, 124)}
_SNOW = {"day": (250, 251, 255), "sunset": (252, 222, 214), "night": (176, 190, 226)}
_WATER = {"day": (58, 120, 190), "sunset": (112, 74, 126), "night": (18, 28, 74)}
_GLEAM = {"day": (214, 232, 248), "sunset": (255, 196, 140), "night": (120, 134, 186)}
_MOUNTAIN = {
    "blue": (82, 112, 172),
    "green": (66, 128, 84),
    "brown": (142, 98, 64),
    "grey": (128, 130, 136),
    "purple": (126, 92, 158),
}
_GROUND = {"meadow": (104, 168, 70), "wheat": (222, 184, 74), "flowers": (92, 158, 72)}
_PETALS = ((226, 60, 70), (250, 214, 70), (240, 130, 190), (250, 250, 250))
_PUFFS = ((-1.5, 0.0, 0.75), (-0.5, -0.45, 1.0), (0.65, -0.3, 0.9), (1.6, 0.05, 0.7))
#: Where the sun or moon stands, as shares of the width and the height.
_STAND = {"day": (0.72, 0.18), "sunset": (0.5, 0.33), "night": (0.28, 0.18)}
_PINE, _TRUNK = (34, 96, 62), (96, 66, 44)

Rng = np.random.Generator
Peak = tuple[float, float, float, float]


def paint_landscape(canvas: Canvas, scene: Landscape, rng: Rng) -> None:
    horizon = canvas.height * rng.uniform(0.575, 0.6)
    light = np.array(_LIGHT[scene.time], np.float32)
    across, down = _STAND[scene.time]
    body_x = canvas.width * (across + rng.uniform(-0.03, 0.03))
    body_y = canvas.height * (down + rng.uniform(-0.02, 0.02))
    _paint_sky(canvas, scene, horizon)
    if scene.body:
        _paint_body(canvas, scene, body_x, body_y, rng)
    if scene.clouds:
        _paint_clouds(canvas, scene, body_x, rng)
    if scene.mountains != "none":
        _paint_mountains(canvas, scene, horizon, body_x, light, rng)
    if scene.water != "none":
        _paint_water(canvas, scene, horizon, body_x, rng)
    if scene.stars:
        _paint_stars(canvas, (body_x, body_y), rng)
    if scene.water != "sea":
        shore = canvas.height * rng.uniform(0.81, 0.83)
        top = horizon - 0.045 if scene.water == "none" else shore
        _paint_ground(canvas, scene, top, light, rng)
    if scene.trees:
        _paint_trees(canvas, scene, light, rng)


def landscape_emphasis(scene: Landscape, rows: int, columns: int) -> Array:
    """Return 1 for the cells of a grid where the sun or moon of this hour stands, or would."""
    across, down = _STAND[scene.time]
    reach = (0.12 * min(rows, columns)) + 0.5
    near_rows = np.abs(np.arange(rows) + 0.5 - down * rows) < reach
    near_columns = np.abs(np.arange(columns) + 0.5 - across * columns) < reach
    return (near_rows[:, None] & near_columns).astype(np.float32)


def _paint_sky(canvas: Canvas, scene: Landscape, horizon: float) -> None:
    stops = np.array(_SKY[scene.time], np.float32)
    depth = np.clip(canvas.y / horizon, 0.0, 1.0) * (len(stops) - 1)
    row = np.stack([np.interp(depth, range(len(stops)), stops[:, n]) for n in range(3)], -1)
    canvas.blend(1.0, row)


def _paint_stars(canvas: Canvas, body: tuple[float, float], rng: Rng) -> None:
    # Painted last, so that the water need not mirror them; high, so that they clear the peaks.
    count = int(11 * canvas.width)
    for n in range(count):
        x = (n + rng.uniform(0.35, 0.65)) * canvas.width / count
        y = canvas.height * (0.04 + 0.2 * (0.618 * n % 1) + rng.uniform(-0.01, 0.01))
        radius = rng.uniform(0.01, 0.015)
        if np.hypot(x - body[0], y - body[1]) > 0.12:
            canvas.fill_near(partial(disc, radius=radius), (x, y), 0.03, (250, 246, 220))


def _paint_body(canvas: Canvas, scene: Landscape, x: float, y: float, rng: Rng) -> None:
    radius = rng.uniform(0.09, 0.105) if scene.time == "sunset" else rng.uniform(0.07, 0.08)
    away = np.hypot(canvas.x - x, canvas.y - y)
    colour = _BODY[scene.time]
    strength = 0.25 if scene.time == "night" else 0.5
    canvas.blend(strength * np.exp(-np.square(away / (2.2 * radius))), colour)
    canvas.fill(away - radius, colour)


def _paint_clouds(canvas: Canvas, scene: Landscape, body_x: float, rng: Rng) -> None:
    count = round(3 * canvas.width)
    slots = (np.arange(count) + rng.uniform(0.4, 0.6, count)) * canvas.width / count
    if scene.body:
        slots = slots[np.abs(slots - body_x) > 0.2]
    for x in slots:
        y = canvas.height * rng.uniform(0.13, 0.21)
        scale = rng.uniform(0.055, 0.065)
        canvas.fill_near(partial(_cloud, scale=scale), (float(x), y), 3 * scale, _CLOUD[scene.time])


def _cloud(dx: Array, dy: Array, scale: float) -> Array:
    puffs = [disc(dx - x * scale, dy - y * scale, size * scale) for x, y, size in _PUFFS]
    return np.maximum(np.minimum.reduce(puffs), dy - 0.35 * scale)


def _peaks(canvas: Canvas, body_x: float, rng: Rng) -> list[Peak]:
    """Return (x, rise, left slope, right slope) of peaks; low ones under the sun or moon."""
    count = round(3 * canvas.width)
    peaks = []
    for n in range(count):
        x = (n + rng.uniform(0.4, 0.6)) * canvas.width / count
        rise = canvas.height * rng.uniform(0.23, 0.29)
        if abs(x - body_x) < 0.2:
            rise *= 0.5
        peaks.append((x, rise, rng.uniform(0.85, 1.1), rng.uniform(0.85, 1.1)))
    return peaks


def _paint_mountains(
    canvas: Canvas, scene: Landscape, horizon: float, body_x: float, light: Array, rng: Rng
) -> None:
    colour = np.array(_MOUNTAIN[scene.mountains], np.float32) * light
    haze = np.array(_SKY[scene.time][1], np.float32)
    far = [(x + 0.14, 0.75 * rise, a, b) for x, rise, a, b in _peaks(canvas, body_x, rng)]
    _paint_ridge(canvas, far, horizon, 0.6 * colour + 0.4 * haze, None)
    snow = np.array(_SNOW[scene.time], np.float32) if scene.snow else None
    _paint_ridge(canvas, _peaks(canvas, body_x, rng), horizon, colour, snow)


def _paint_ridge(
    canvas: Canvas, peaks: list[Peak], horizon: float, colour: Array, snow: Array | None
) -> None:
    heights, sides = [], []
    for x, rise, left, right in peaks:
        dx = canvas.x - x
        heights.append(rise - np.where(dx < 0, -left * dx, right * dx))
        sides.append(dx)
    which = np.argmax(heights, axis=0)
    ridge = np.take_along_axis(np.array(heights), which[None], 0)[0]
    side = np.take_along_axis(np.array(sides), which[None], 0)[0]
    inside = np.maximum((horizon - ridge - canvas.y) * 0.75, canvas.y - horizon)
    shaded = canvas.coverage(-(side + 0.12 * (canvas.y - horizon + ridge)))
    canvas.fill(inside, colour)
    canvas.blend(canvas.coverage(inside) * shaded * 0.22, (20, 24, 44))
    if snow is not None:
        rise = np.array([peak[1] for peak in peaks], np.float32)[which]
        zigzag = 0.024 * (2 * np.abs((side / 0.09) % 1.0 - 0.5) * 2 - 1)
        line = horizon - 0.62 * rise + zigzag
        cap = np.maximum(inside, (canvas.y - line) * 0.8)
        canvas.fill(cap, snow)
        canvas.blend(canvas.coverage(cap) * shaded * 0.14, (60, 80, 140))


def _paint_water(canvas: Canvas, scene: Landscape, horizon: float, body_x: float, rng: Rng) -> None:
    rows = np.flatnonzero(canvas.y[:, 0] >= horizon)
    mirrored = np.clip(2 * rows[0] - rows - 1, 0, None)
    reflection = canvas.colours[mirrored]
    water = 0.4 * reflection + 0.6 * np.array(_WATER[scene.time], np.float32)
    canvas.colours[rows] = water
    depth = canvas.y - horizon
    if scene.water == "sea":
        # Broad swells, wider towards the viewer.
        phase = np.log(np.maximum(depth, 1e-3) + 0.06) * 14 + rng.uniform(0, 1)
        swell = 0.5 + 0.5 * np.sin(phase + 0.6 * np.sin(canvas.x * 5))
        canvas.blend((depth > 0) * 0.3 * swell**2, _WATER[scene.time])
    if scene.body:
        width = 0.05 + 0.12 * depth
        path = np.exp(-np.square((canvas.x - body_x) / width)) * (depth > 0)
        canvas.blend(0.5 * path, _GLEAM[scene.time])


def _paint_ground(canvas: Canvas, scene: Landscape, top: float, light: Array, rng: Rng) -> None:
    colour = np.array(_GROUND[scene.ground], np.float32) * light
    start = rng.uniform(0, 1)
    edge = top + 0.022 * (1 + np.sin(canvas.x * rng.uniform(3.0, 3.5) + start))
    canvas.fill(edge - canvas.y, colour)
    nearer = top + 0.5 * (canvas.height - top) + 0.05 * np.sin(canvas.x * 2.2 + start + 2.0)
    canvas.fill(nearer - canvas.y, colour * 0.86)
    if scene.ground == "flowers":
        for _ in range(int(18 * canvas.width)):
            centre = rng.uniform(0, canvas.width), rng.uniform(top + 0.06, canvas.height)
            radius = 0.012 + 0.03 * (centre[1] - top)
            petal = np.array(_PETALS[rng.integers(len(_PETALS))], np.float32) * light
            canvas.fill_near(partial(disc, radius=radius), centre, 0.03, petal)


def _paint_trees(canvas: Canvas, scene: Landscape, light: Array, rng: Rng) -> None:
    if scene.water == "sea":
        side = canvas.width if scene.time == "night" else 0.0
        bank = np.hypot((canvas.x - side) / 1.6, canvas.y - canvas.height - 0.12) - 0.27
        canvas.fill(bank, np.array(_GROUND["meadow"], np.float32) * light)
        spots = [abs(side - x) for x in (0.24, 0.09)]
    else:
        spots = [0.24, 0.09, canvas.width - 0.11]
    for x in spots:
        foot = canvas.height * rng.uniform(0.9, 0.94)
        _paint_pine(canvas, x + rng.uniform(-0.02, 0.02), foot, rng.uniform(0.25, 0.3), light)


def _paint_pine(canvas: Canvas, x: float, foot: float, tall: float, light: Array) -> None:
    def trunk(dx: Array, dy: Array) -> Array:
        return np.maximum(np.abs(dx) - 0.05 * tall, np.abs(dy) - 0.1 * tall)

    canvas.fill_near(trunk, (x, foot - 0.06 * tall), tall, np.array(_TRUNK, np.float32) * light)
    for level, half in ((0.12, 0.3), (0.36, 0.24), (0.6, 0.17)):
        base, tip = -level * tall, -(level + 0.42) * tall
        corners = [(0.0, tip), (half * tall, base), (-half * tall, base)]
        needles = np.array(_PINE, np.float32) * light
        canvas.fill_near(partial(polygon, corners=corners), (x, foot), 1.2 * tall, needles)
