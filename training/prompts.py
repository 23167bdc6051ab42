"""The fixed list of held-out prompts, each with what its picture must show."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

from .captions import caption
from .scene import ObjectScene, Scene, attributes, draw_scene

_LIST = Path(__file__).with_name("prompts.jsonl")

_WORDS = {
    "body": r"\bsun\b|moon|太阳|月",
    "snow": r"snow|雪",
    "lake": r"lake|water|湖",
    "sea": r"\bsea\b|seascape|ocean|海(?!花)|大海",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt and the attributes it names; what it leaves open is not judged."""

    text: str
    family: str
    language: str
    expected: dict[str, str | bool]


def expectations(scene: Scene, text: str) -> dict[str, str | bool]:
    """Return the attributes of `scene` that `text` speaks of."""
    shown = attributes(scene)
    if isinstance(scene, ObjectScene):
        return shown
    text = text.lower().replace("花海", "")
    named: dict[str, str | bool] = {"time": shown["time"]}
    if re.search(_WORDS["body"], text):
        named["body"] = True
    if re.search(_WORDS["snow"], text):
        named["snow"] = True
    if scene.water != "none" and re.search(_WORDS[scene.water], text):
        named["water"] = scene.water
    return named


def draw_prompts(count: int, seed: int) -> list[Prompt]:
    """Draw prompts of unseen combinations: half objects, half landscapes, a third Chinese."""
    rng = Random(seed)
    prompts = []
    for n in range(count):
        scene = draw_scene(rng, unseen=True, objects=float(n % 2 == 0))
        language = "zh" if n % 6 in (4, 5) else "en"
        text = caption(scene, rng, language)
        family = "object" if isinstance(scene, ObjectScene) else "landscape"
        prompts.append(
            Prompt(text=text, family=family, language=language, expected=expectations(scene, text))
        )
    return prompts


def read_prompts(path: Path = _LIST) -> list[Prompt]:
    return [Prompt(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def write_prompts(prompts: list[Prompt], path: Path = _LIST) -> None:
    fields = ("text", "family", "language", "expected")
    lines = [
        json.dumps({name: getattr(prompt, name) for name in fields}, ensure_ascii=False)
        for prompt in prompts
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
