"""What a training picture shows: the attributes, how they are drawn, which are held out.

Knows neither pixels nor words; the painter and the captions both read scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product
from random import Random

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart")
PLACES = (
    "top left", "top", "top right",
    "left", "centre", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
SIZES = ("small", "medium", "large")

TIMES = ("day", "sunset", "night")
MOUNTAINS = ("none", "blue", "green", "brown", "grey", "purple")
WATERS = ("none", "lake", "sea")
GROUNDS = ("meadow", "wheat", "flowers")

#: One combination in this many is never trained on.
HELD_OUT_EVERY = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectScene:
    """One flat shape on a plain background."""

    colour: str
    shape: str
    background: str
    place: str
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """Sky, mountains, water and ground; `body` is the sun, or the moon at night."""

    time: str
    body: bool
    clouds: bool
    stars: bool
    mountains: str
    snow: bool
    water: str
    trees: bool
    ground: str


Scene = ObjectScene | Landscape

#: Everything that can be asked about a scene, with the possible answers.
CHOICES: dict[str, tuple[str | bool, ...]] = {
    "colour": COLOURS,
    "shape": SHAPES,
    "background": COLOURS,
    "place": PLACES,
    "size": SIZES,
    "time": TIMES,
    "body": (False, True),
    "clouds": (False, True),
    "stars": (False, True),
    "mountains": MOUNTAINS,
    "snow": (False, True),
    "water": WATERS,
    "trees": (False, True),
    "ground": GROUNDS,
}


def _draw_object(rng: Random) -> ObjectScene:
    colour, background = rng.sample(COLOURS, 2)
    return ObjectScene(
        colour=colour,
        shape=rng.choice(SHAPES),
        background=background,
        place="centre" if rng.random() < 0.2 else rng.choice(PLACES),
        size=rng.choice(SIZES),
    )


def _draw_landscape(rng: Random) -> Landscape:
    time = rng.choice(TIMES)
    mountains = "none" if rng.random() < 0.2 else rng.choice(MOUNTAINS[1:])
    return Landscape(
        time=time,
        body=rng.random() < 0.7,
        clouds=rng.random() < 0.4,
        stars=time == "night" and rng.random() < 0.6,
        mountains=mountains,
        snow=mountains != "none" and rng.random() < 0.45,
        water=rng.choice(WATERS),
        trees=rng.random() < 0.4,
        ground=rng.choice(GROUNDS),
    )


_OBJECTS = {key: n for n, key in enumerate(product(COLOURS, SHAPES, COLOURS))}
_LANDSCAPES = {key: n for n, key in enumerate(product(TIMES, MOUNTAINS, (False, True), WATERS))}


def held_out(scene: Scene) -> bool:
    """Tell whether this combination of attributes is kept away from training."""
    if isinstance(scene, ObjectScene):
        number = _OBJECTS[scene.colour, scene.shape, scene.background]
    else:
        number = _LANDSCAPES[scene.time, scene.mountains, scene.snow, scene.water]
    # A multiplier spreads the held-out cells over every row and column.
    return number * 7 % HELD_OUT_EVERY == 3


def draw_scene(rng: Random, *, unseen: bool = False, objects: float = 0.5) -> Scene:
    """Draw a scene, from the trained combinations or (`unseen`) from the held-out ones."""
    draw = _draw_object if rng.random() < objects else _draw_landscape
    while True:
        scene = draw(rng)
        if held_out(scene) == unseen:
            return scene


def attributes(scene: Scene) -> dict[str, str | bool]:
    """Return the scene as a plain mapping."""
    return {field.name: getattr(scene, field.name) for field in fields(scene)}
