"""Trains the transformer and the text encoders together, by flow matching on cached latents.

Knows latents and captions; pictures are the painter's and the autoencoder's business.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from . import settings, workers
from .autoencoder import whitened
from .captions import JUNK, caption
from .counted import CountedTransformer, patches
from .export import Components, fresh_components
from .latents import LatentPool
from .optimiser import Average, Muon
from .scene import Scene
from .text import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerRun:
    """The settings of one run, kept beside its weights."""

    folder: str
    latents: str
    steps: int = 100_000
    #: Pictures a step and process: of 512x512, and of one of the other sizes in turn.
    batch: int = 20
    batch_other: int = 10
    muon_lr: float = 0.01
    adam_lr: float = 2e-3
    #: Both rates fall towards `decay_to` of themselves over this many last steps.
    decay_steps: int = 4000
    noise_mean: float = 0.8
    noise_spread: float = 1.1
    empty_captions: float = 0.1
    junk_captions: float = 0.02
    chinese: float = 0.4
    average: float = 0.999
    seed: int = 0
    processes: int = 2
    half: bool = True


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
    nn.init.normal_(parts.llama.model.embed_tokens.weight, std=0.5)


def trained_modules(parts: Components) -> list[nn.Module]:
    return [parts.transformer, parts.clip, parts.clip_2, parts.t5, parts.llama]


def _trained_parameters(parts: Components) -> list[nn.Parameter]:
    seen: dict[int, nn.Parameter] = {}
    for module in trained_modules(parts):
        for parameter in module.parameters():
            seen.setdefault(id(parameter), parameter)
    return list(seen.values())


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    inside = ".attn1.to_" in name or ".ff_i." in name or ".ff_t." in name
    return inside and parameter.ndim == 2 and ".gate." not in name


class TransformerTrainer:
    """Everything one process holds; `step` trains on one batch."""

    def __init__(self, run: TransformerRun, rank: int) -> None:
        self.run, self.rank = run, rank
        self.parts = fresh_components(run.seed)
        _start_weights(self.parts)
        for module in trained_modules(self.parts):
            module.train()
        self.model = CountedTransformer(self.parts.transformer)
        self.pool = LatentPool(Path(run.latents))
        self.spread = self.pool.spread()
        self.parameters = _trained_parameters(self.parts)
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

    def _captions(self, scenes: list[Scene], rng: Random) -> list[str]:
        captions = []
        for scene in scenes:
            luck = rng.random()
            if luck < self.run.empty_captions:
                captions.append("")
            elif luck < self.run.empty_captions + self.run.junk_captions:
                captions.append(rng.choice(JUNK))
            else:
                language = "zh" if rng.random() < self.run.chinese else "en"
                captions.append(caption(scene, rng, language))
        return captions

    def _loss(self, kind: int, count: int, rng: Random, noise: torch.Generator) -> Tensor:
        run = self.run
        latents, scenes = self.pool.batch(kind, count, rng)
        latents = latents / self.spread[:, None, None]
        normal = torch.randn(count, generator=noise) * run.noise_spread + run.noise_mean
        sigma = torch.sigmoid(normal)[:, None, None, None]
        noises = torch.randn(latents.shape, generator=noise)
        noisy = (1 - sigma) * latents + sigma * noises
        with torch.autocast("cpu", torch.bfloat16, enabled=run.half):
            text = encode(self.parts, self._captions(scenes, rng), compact=True)
            output = self.model(noisy, 1000 * sigma.flatten(), text)
        # The pipeline negates the model's output, so this is minus the flow's velocity.
        target = patches(latents - noises, self.parts.transformer.config.patch_size)
        return (output.float() - target).square().mean()

    def step(self) -> tuple[float, float]:
        """Return the losses at 512x512 and at the other size of this step."""
        run = self.run
        # Seeded by the step alone, so that a resumed run goes on exactly as it would have.
        rng = Random(f"{run.seed} {self.rank} {self.done}")
        noise = torch.Generator().manual_seed(rng.randrange(2**62))
        other = 1 + self.done % (len(settings.PICTURE_SIZES) - 1)
        losses = []
        total = run.batch + run.batch_other
        for kind, count in ((0, run.batch), (other, run.batch_other)):
            loss = self._loss(kind, count, rng, noise)
            balance = torch.stack(self.model.balance).sum()
            ((loss + balance) * (count / total)).backward()
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
            "modules": [module.state_dict() for module in trained_modules(self.parts)],
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average.state_dict(),
            "spread": self.spread,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path)
        self.done = state["done"]
        for module, saved in zip(trained_modules(self.parts), state["modules"], strict=True):
            module.load_state_dict(saved)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.average.load_state_dict(state["average"])
        self.spread = state["spread"]


def averaged(path: Path, vae: AutoencoderKL, seed: int = 0) -> Components:
    """Return the averaged weights of a checkpoint, with `vae` scaled to the latents it learned."""
    state = torch.load(path)
    parts = fresh_components(seed)
    with torch.no_grad():
        for live, mean in zip(_trained_parameters(parts), state["average"]["values"], strict=True):
            live.copy_(mean)
    parts.vae = whitened(vae, state["spread"])
    for module in trained_modules(parts):
        module.eval()
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
