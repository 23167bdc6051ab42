"""Trains the transformer by flow matching on cached latents, with text encoders that can read.

Knows latents and captions; pictures are the painter's and the autoencoder's business.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from . import settings, workers
from .captions import caption
from .counted import CountedTransformer, patches
from .export import Components, fresh_components, load
from .junk import JUNK, with_strange_words
from .language import encoders, keep, take_over
from .latents import MEASURE, LatentPool
from .measure import mixed, remeasured
from .optimiser import Average, Muon
from .painter import emphasis
from .scene import Scene
from .text import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerRun:
    """The settings of one run, kept beside its weights."""

    folder: str
    latents: str
    #: The encoders of a finished `language` run, or nothing with `start`.
    language: str = ""
    #: An exported model to go on from, whose own autoencoder made the latents.
    start: str = ""
    steps: int = 6000
    #: Pictures a step and process: of 512x512, and of one of the other sizes in turn.
    batch: int = 12
    batch_other: int = 10
    #: How much of the loss the other size has; it is the harder one.
    other_share: float = 0.55
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    #: Both rates fall towards `decay_to` of themselves over this many last steps.
    decay_steps: int = 2000
    noise_mean: float = 0.8
    noise_spread: float = 1.1
    empty_captions: float = 0.1
    junk_captions: float = 0.02
    strange_words: float = 0.05
    #: Until this share of the steps only the summary of a caption is read, which is faster.
    words_from: float = 0.85
    chinese: float = 0.4
    #: How much more than elsewhere an error weighs where the caption puts the object.
    emphasis: float = 8.0
    average: float = 0.999
    seed: int = 0
    processes: int = 2
    #: Bfloat16 products; only for processors that have them.
    half: bool = False


#: The size besides 512x512 that each step trains on, in turn.
_OTHER_SIZES = (3, 3, 1, 3, 3, 2)


def _start_weights(parts: Components) -> None:
    """Let blocks begin as nothing and words begin far apart."""
    transformer = parts.transformer
    for block in (*transformer.double_stream_blocks, *transformer.single_stream_blocks):
        nn.init.zeros_(block.block.adaLN_modulation[1].weight)
        nn.init.zeros_(block.block.adaLN_modulation[1].bias)
    final = transformer.final_layer
    for linear in (final.linear, final.adaLN_modulation[1]):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)


def _beginning(run: TransformerRun) -> Components:
    if run.start:
        parts = load(Path(run.start))
        keep(parts)
    else:
        parts = fresh_components(run.seed)
        _start_weights(parts)
        take_over(parts, Path(run.language))
    return parts


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    inside = ".attn1.to_" in name or ".ff_i." in name or ".ff_t." in name
    return inside and parameter.ndim == 2 and ".gate." not in name


class TransformerTrainer:
    """Everything one process holds; `step` trains on one batch."""

    def __init__(self, run: TransformerRun, rank: int) -> None:
        self.run, self.rank = run, rank
        self.parts = _beginning(run)
        self.parts.transformer.train()
        self.model = CountedTransformer(self.parts.transformer)
        self.pool = LatentPool(Path(run.latents))
        self.matrix = torch.load(Path(run.latents) / MEASURE)
        self.parameters = list(self.parts.transformer.parameters())
        named = list(self.parts.transformer.named_parameters())
        matrices = [p for name, p in named if _is_block_matrix(name, p)]
        chosen = {id(p) for p in matrices}
        others = [p for p in self.parameters if id(p) not in chosen]
        self.optimisers = [
            Muon(matrices, run.muon_lr),
            torch.optim.AdamW(others, run.adam_lr, (0.9, 0.98), weight_decay=0.0),
        ]
        self.average = Average(self.parameters, run.average)
        self.done = 0

    def _caption(self, scene: Scene, rng: Random) -> tuple[str, bool]:
        """Return what to say of a scene, and whether that tells what is in it."""
        luck = rng.random()
        if luck < self.run.empty_captions:
            return "", False
        if luck < self.run.empty_captions + self.run.junk_captions:
            return rng.choice(JUNK), False
        text = caption(scene, rng, "zh" if rng.random() < self.run.chinese else "en")
        return (with_strange_words(text, rng) if luck > 1 - self.run.strange_words else text), True

    def _loss(self, kind: int, count: int, rng: Random, noise: torch.Generator) -> Tensor:
        run = self.run
        latents, scenes = self.pool.batch(kind, count, rng)
        latents = mixed(latents, self.matrix)
        said = [self._caption(scene, rng) for scene in scenes]
        sigma = self._sigmas(count, noise, kind)[:, None, None, None]
        noises = torch.randn(latents.shape, generator=noise)
        noisy = (1 - sigma) * latents + sigma * noises
        with torch.autocast("cpu", torch.bfloat16, enabled=run.half):
            with torch.no_grad():
                text = encode(self.parts, [words for words, _ in said], compact=True)
            if self.done < run.words_from * run.steps:
                text = text.summary()
            output = self.model(noisy, 1000 * sigma.flatten(), text)
        # The pipeline negates the model's output, so this is minus the flow's velocity.
        target = patches(latents - noises, self.parts.transformer.config.patch_size)
        error = (output.float() - target).square().mean(-1)
        return (error * self._weights(kind, scenes, [told for _, told in said])).mean()

    def _sigmas(self, count: int, noise: torch.Generator, kind: int) -> Tensor:
        """Draw noise levels that lie evenly in their distribution: a step sees all of them.

        The more pixels, the more noise it takes to hide what a picture shows. Source: Esser et
        al., https://arxiv.org/abs/2403.03206, section 5.3.2.
        """
        even = (torch.arange(count) + torch.rand(count, generator=noise)) / count
        even = even[torch.randperm(count, generator=noise)].clamp(1e-4, 1 - 1e-4)
        pixels, fewest = (math.prod(settings.PICTURE_SIZES[n]) for n in (kind, 0))
        mean = self.run.noise_mean + math.log(pixels / fewest) / 2
        return torch.sigmoid(torch.special.ndtri(even) * self.run.noise_spread + mean)

    def _weights(self, kind: int, scenes: list[Scene], told: list[bool]) -> Tensor:
        """Return the weight of each token's error, [B, S].

        It depends on nothing but the caption, so the best answer to it stays the same.
        """
        stride = settings.VAE_FACTOR * self.parts.transformer.config.patch_size
        rows, columns = (side // stride for side in settings.PICTURE_SIZES[kind])
        weights = torch.ones(len(scenes), rows, columns)
        for weight, scene, known in zip(weights, scenes, told, strict=True):
            if known:
                weight += self.run.emphasis * torch.from_numpy(emphasis(scene, rows, columns))
        return weights.flatten(1)

    def step(self) -> tuple[float, float]:
        """Return the losses at 512x512 and at the other size of this step."""
        run = self.run
        # Seeded by the step alone, so that a resumed run goes on exactly as it would have.
        rng = Random(f"{run.seed} {self.rank} {self.done}")
        noise = torch.Generator().manual_seed(rng.randrange(2**62))
        other = _OTHER_SIZES[self.done % len(_OTHER_SIZES)]
        losses = []
        shares = (1 - run.other_share, run.other_share)
        counts = (run.batch, run.batch_other)
        for kind, count, share in zip((0, other), counts, shares, strict=True):
            loss = self._loss(kind, count, rng, noise)
            balance = torch.stack(self.model.balance).sum()
            ((loss + balance) * share).backward()
            losses.append(loss.item())
        workers.average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        rate = self._rate()
        for optimiser, base in zip(self.optimisers, (run.muon_lr, run.adam_lr), strict=True):
            optimiser.param_groups[0]["lr"] = base * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update()
        self.done += 1
        return losses[0], losses[1]

    def _rate(self) -> float:
        warm = min(1.0, (self.done + 1) / 100)
        return warm * min(1.0, (self.run.steps - self.done) / self.run.decay_steps + 0.02)

    def save(self, path: Path) -> None:
        state = {
            "done": self.done,
            "transformer": self.parts.transformer.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average.state_dict(),
            "language": [module.state_dict() for module in encoders(self.parts)],
            "matrix": self.matrix,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path)
        self.done = state["done"]
        self.parts.transformer.load_state_dict(state["transformer"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.average.load_state_dict(state["average"])


def averaged(path: Path, vae: AutoencoderKL, seed: int = 0) -> Components:
    """Return the averaged weights of a checkpoint, with `vae` measured as the latents were."""
    state = torch.load(path)
    parts = fresh_components(seed)
    with torch.no_grad():
        averages = state["average"]["values"]
        for live, mean in zip(parts.transformer.parameters(), averages, strict=True):
            live.copy_(mean)
    for module, saved in zip(encoders(parts), state["language"], strict=True):
        module.load_state_dict(saved)
    for module in (parts.transformer, *encoders(parts)):
        module.eval()
    parts.vae = remeasured(vae, state["matrix"])
    return parts


def train(rank: int, run: TransformerRun) -> None:
    """Train until `run.steps`, resuming from the folder's checkpoint where there is one."""
    folder = Path(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "transformer.pt"
    trainer = TransformerTrainer(run, rank)
    if checkpoint.exists():
        trainer.resume(checkpoint)
    if rank == 0:
        (folder / "transformer.json").write_text(json.dumps(asdict(run), indent=2) + "\n")
    started, losses = time.monotonic(), []
    while trainer.done < run.steps:
        losses.append(trainer.step())
        if trainer.done % 100 == 0:
            trainer.pool.reload()
        if rank == 0 and trainer.done % 50 == 0:
            _log(folder, trainer, losses, time.monotonic() - started)
            losses.clear()
        if rank == 0 and (trainer.done % 100 == 0 or trainer.done == run.steps):
            trainer.save(checkpoint)


def _log(folder: Path, trainer: TransformerTrainer, losses: list, seconds: float) -> None:
    square, other = (sum(values) / len(values) for values in zip(*losses, strict=True))
    line = {
        "step": trainer.done,
        "loss_512": round(square, 5),
        "loss_other": round(other, 5),
        "shards": trainer.pool.shards,
        "seconds": round(seconds, 1),
    }
    with (folder / "transformer.log").open("a") as log:
        log.write(json.dumps(line) + "\n")
