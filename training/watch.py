"""Follows a running training: scores its averaged weights, exports them if better."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from . import prompts
from .autoencoder import finished
from .export import export
from .generate import Generator
from .judge import Score, judge, paint_all
from .prompts import Prompt
from .sheet import contact_sheet
from .transformer import averaged


def merit(score: Score) -> float:
    """Return one number to compare exports by: the mean share of right attributes."""
    return (score["object mean"] + score["landscape mean"]) / 2


def best_so_far(log: Path) -> float:
    if not log.exists():
        return 0.0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return max((line["merit"] for line in lines if line["exported"]), default=0.0)


def look(
    transformer: Path, autoencoder: Path, destination: Path, log: Path, asked: list[Prompt],
    **how,
) -> None:  # fmt: skip
    """Score the checkpoint once; export it, with a contact sheet beside, when it is better."""
    parts = averaged(transformer, finished(autoencoder))
    done = torch.load(transformer)["done"]
    generator = Generator(parts)
    score = judge(generator, asked, **how)
    better = merit(score) > best_so_far(log)
    if better:
        export(parts, destination)
        sheet = contact_sheet(list(paint_all(generator, asked[:16], **how)), 4)
        sheet.save(log.with_name("best.png"))
    line = {"step": done, "merit": round(merit(score), 4), "exported": better, "score": score}
    with log.open("a") as out:
        out.write(json.dumps(line) + "\n")


def watch(
    transformer: Path, autoencoder: Path, destination: Path, log: Path, *, count: int,
    minutes: float, **how,
) -> None:  # fmt: skip
    """Look every so many minutes, for as long as it is let."""
    torch.set_num_threads(1)
    asked = prompts.read_prompts()[:count]
    seen = 0.0
    while True:
        if transformer.exists() and transformer.stat().st_mtime > seen:
            seen = transformer.stat().st_mtime
            look(transformer, autoencoder, destination, log, asked, **how)
        time.sleep(60 * minutes)
