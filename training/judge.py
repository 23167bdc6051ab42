"""Scores a model: paints the held-out prompts, reads the pictures, counts what is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from .generate import Generator
from .prompts import Prompt
from .reading import read_landscape, read_object

_BATCH = 8
#: What makes an object the right one, wherever it is and however large.
_LOOK = ("colour", "shape", "background")
Score = dict[str, float]


def verdict(prompt: Prompt, pixels: np.ndarray) -> dict[str, bool]:
    """Say of each expected attribute whether the picture shows it."""
    seen = read_object(pixels) if prompt.family == "object" else read_landscape(pixels)
    return {name: bool(seen[name] == value) for name, value in prompt.expected.items()}


def paint_all(generator: Generator, prompts: list[Prompt], **how) -> Iterator[np.ndarray]:
    for start in range(0, len(prompts), _BATCH):
        texts = [prompt.text for prompt in prompts[start : start + _BATCH]]
        yield from generator.paint(texts, seed=start, **how)


def judge(generator: Generator, prompts: list[Prompt], **how) -> Score:
    """Return the share of right answers per attribute, and of prompts with all of them right.

    "object look" asks for colour, shape and background together.
    """
    marks: dict[str, list[bool]] = defaultdict(list)
    for prompt, pixels in zip(prompts, paint_all(generator, prompts, **how), strict=True):
        answers = verdict(prompt, pixels)
        for name, right in answers.items():
            marks[f"{prompt.family} {name}"].append(right)
            marks[f"{prompt.family} mean"].append(right)
        if prompt.family == "object":
            marks["object look"].append(all(answers[name] for name in _LOOK))
        marks[f"{prompt.family} all"].append(all(answers.values()))
        marks[f"{prompt.language} all"].append(all(answers.values()))
        marks["all"].append(all(answers.values()))
    return {name: round(float(np.mean(values)), 3) for name, values in sorted(marks.items())}
