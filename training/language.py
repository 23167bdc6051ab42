"""Teaches the text encoders to read: from a caption alone, say what the scene shows.

A diffusion loss teaches words slowly. Read first, they leave the transformer only the painting.
Knows captions and scenes; knows neither pictures nor the transformer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import settings
from .captions import caption
from .export import Components, fresh_components
from .junk import with_strange_words
from .scene import CHOICES, Scene, attributes, draw_scene
from .text import TextStates, encode

_NO_ANSWER = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRun:
    """The settings of one run, kept beside its weights."""

    folder: str
    steps: int = 2500
    batch: int = 96
    lr: float = 2e-3
    chinese: float = 0.45
    strange: float = 0.15
    seed: int = 0


def encoders(parts: Components) -> list[nn.Module]:
    return [parts.clip, parts.clip_2, parts.t5, parts.llama]


def summaries(text: TextStates) -> list[Tensor]:
    """Return the vectors [B, D] that carry a whole caption: pooled ones, and the last padding.

    Padding attends to every word before it, and the transformer sees it a hundredfold.
    """
    return [*text.pooled.chunk(2, -1), text.t5[:, -1], *text.llama[:, :, -1]]


def answers(scenes: list[Scene]) -> dict[str, Tensor]:
    """Return for each question the number of the right choice, or that it has none."""
    shown = [attributes(scene) for scene in scenes]
    return {
        name: torch.tensor(
            [choices.index(one[name]) if name in one else _NO_ANSWER for one in shown]
        )
        for name, choices in CHOICES.items()
    }


class Examination(nn.Module):
    """One linear head per summary, whose outputs are the choices of every question in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [len(choices) for choices in CHOICES.values()]
        heads = 2 + 1 + settings.LLAMA_LAYERS
        self.heads = nn.ModuleList(
            nn.Linear(settings.TEXT_WIDTH, sum(self.sizes)) for _ in range(heads)
        )

    def forward(self, text: TextStates) -> list[tuple[Tensor, ...]]:
        """Return each head's logits, question by question."""
        both = zip(self.heads, summaries(text), strict=True)
        return [head(summary).split(self.sizes, -1) for head, summary in both]

    def loss(self, text: TextStates, scenes: list[Scene]) -> Tensor:
        right = answers(scenes)
        losses = [
            F.cross_entropy(logits, target, ignore_index=_NO_ANSWER)
            for given in self(text)
            for logits, target in zip(given, right.values(), strict=True)
        ]
        return torch.stack(losses).sum() / len(self.heads)


def lessons(run: LanguageRun, rng: Random) -> Iterator[tuple[list[str], list[Scene]]]:
    while True:
        scenes = [draw_scene(rng) for _ in range(run.batch)]
        texts = []
        for scene in scenes:
            text = caption(scene, rng, "zh" if rng.random() < run.chinese else "en")
            texts.append(with_strange_words(text, rng) if rng.random() < run.strange else text)
        yield texts, scenes


@torch.no_grad()
def examine(parts: Components, heads: Examination, count: int = 600) -> dict[str, float]:
    """Return the share of right answers about unseen objects, each by its best head."""
    rng = Random(1)
    scenes = [draw_scene(rng, unseen=True, objects=1.0) for _ in range(count)]
    texts = [caption(scene, rng, rng.choice(("en", "zh"))) for scene in scenes]
    given, right = heads(encode(parts, texts, compact=True)), answers(scenes)
    marks = {}
    for n, (name, target) in enumerate(right.items()):
        if (target != _NO_ANSWER).all():
            each = [(one[n].argmax(-1) == target).float().mean().item() for one in given]
            marks[name] = round(max(each), 3)
    return marks


def train(run: LanguageRun) -> None:
    """Train the encoders and write them, with their log and settings, into the folder."""
    folder = Path(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "language.json").write_text(json.dumps(asdict(run), indent=2) + "\n")
    parts = fresh_components(run.seed)
    nn.init.normal_(parts.llama.model.embed_tokens.weight, std=0.5)
    heads = Examination()
    learning = nn.ModuleList([*encoders(parts), heads])
    learning.train()
    optimiser = torch.optim.AdamW(learning.parameters(), run.lr, (0.9, 0.98), weight_decay=0.01)
    started, teacher = time.monotonic(), lessons(run, Random(run.seed))
    for step in range(run.steps):
        texts, scenes = next(teacher)
        loss = heads.loss(encode(parts, texts, compact=True), scenes)
        loss.backward()
        nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
        rate = run.lr * min(1.0, (step + 1) / 50, (run.steps - step) / (0.4 * run.steps))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0 or step + 1 == run.steps:
            line = {"step": step + 1, "loss": round(loss.item(), 4)}
            line |= {"seconds": round(time.monotonic() - started, 1)}
            line |= examine(parts, heads)
            with (folder / "language.log").open("a") as log:
                log.write(json.dumps(line) + "\n")
    torch.save([module.state_dict() for module in encoders(parts)], folder / "language.pt")


def take_over(parts: Components, path: Path) -> None:
    """Give `parts` the text encoders of a finished run, to keep."""
    for module, state in zip(encoders(parts), torch.load(path), strict=True):
        module.load_state_dict(state)
    keep(parts)


def keep(parts: Components) -> None:
    """Let the text encoders stay as they are from now on."""
    for module in encoders(parts):
        module.requires_grad_(False)
        module.eval()
