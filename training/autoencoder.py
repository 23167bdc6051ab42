"""Trains the autoencoder on crops, with latents of unit spread and a little fixed noise.

Knows pictures and latents; knows nothing of captions or of the transformer.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from . import settings, workers
from .crops import CropSource
from .export import MODEL_NAME
from .linear_start import keep_constants, start_linear
from .optimiser import Average


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderRun:
    """The settings of one run, kept beside its weights."""

    folder: str
    steps: int = 4000
    batch: int = 12
    crop: int = 128
    #: The last part of the run sees larger crops, in equally many pixels.
    large_crop_from: float = 0.5
    #: Divided by the fan-in of each convolution; biases and norms use `plain_lr`.
    lr: float = 0.2
    plain_lr: float = 1e-3
    noise: float = 0.1
    decay_from: float = 0.6
    average: float = 0.998
    seed: int = 0
    processes: int = 2
    #: Bfloat16 products; only for processors that have them.
    half: bool = False
    #: A finished run or exported model whose encoder stays, while the decoder learns on.
    decoder_of: str = ""


class LatentScale(nn.Module):
    """Running mean and spread of each latent channel, to bring both to 0 and 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("spread", torch.ones(1, channels, 1, 1))

    def forward(self, latents: Tensor) -> Tensor:
        return (latents - self.mean) / self.spread

    @torch.no_grad()
    def follow(self, latents: Tensor, speed: float) -> None:
        mean = latents.mean((0, 2, 3), keepdim=True)
        square = (latents - self.mean).square().mean((0, 2, 3), keepdim=True)
        self.mean.lerp_(mean, speed)
        self.spread.copy_(self.spread.square().lerp(square, speed).sqrt().clamp_min(1e-3))
        workers.average([self.mean, self.spread])


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Penalise wrong colours, and once more wrong edges and tints of whole areas."""
    error = output - target
    loss = error.abs().mean() + 2.0 * error.square().mean()
    loss = loss + F.avg_pool2d(error, 16).abs().mean()
    for axis in (-1, -2):
        loss = loss + 0.5 * error.diff(dim=axis).abs().mean()
    return loss


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Return decibels per picture, for values from -1 to 1."""
    error = (output.clamp(-1, 1) - target).square().mean((1, 2, 3))
    return 10 * torch.log10(4 / error)


def learning_rate(step: int, steps: int, decay_from: float) -> float:
    """Warm up, stay, and fall in a straight line to nothing."""
    warm = min(1.0, (step + 1) / 40)
    left = (steps - step) / max(1.0, steps * (1 - decay_from))
    return warm * min(1.0, left)


class AutoencoderTrainer:
    """Everything one process holds; `step` trains on one batch."""

    def __init__(self, run: AutoencoderRun, rank: int) -> None:
        torch.manual_seed(run.seed)
        self.run = run
        self.vae = AutoencoderKL(**settings.AUTOENCODER)
        start_linear(self.vae)
        keep_constants(self.vae)
        self.scale = LatentScale(settings.LATENT_CHANNELS)
        if run.decoder_of:
            self._take_over(Path(run.decoder_of))
        self.parameters = [p for p in self.vae.parameters() if p.requires_grad]
        groups = [{"params": [p], "base": self._base_rate(p)} for p in self.parameters]
        self.optimiser = torch.optim.AdamW(groups, 0.0, (0.9, 0.98), weight_decay=0.0)
        self.average = Average(self.vae.parameters(), run.average)
        self.source = CropSource(run.seed * 1000 + rank + 1)
        self.noise = torch.Generator().manual_seed(run.seed * 1000 + rank)
        self.done = 0

    def _take_over(self, path: Path) -> None:
        self.vae.load_state_dict(finished(path).state_dict())
        self.vae.encoder.requires_grad_(False)

    def _base_rate(self, parameter: Tensor) -> float:
        # Wide layers sum many steps at once and need smaller ones; one rate for all stalls.
        if parameter.ndim == 1:
            return self.run.plain_lr
        return self.run.lr / parameter[0].numel()

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.run.half):
            with torch.set_grad_enabled(not self.run.decoder_of):
                raw = self.vae.encoder(pictures)[:, : settings.LATENT_CHANNELS].float()
            latents = self.scale(raw)
            shaken = torch.randn(latents.shape, generator=self.noise) * self.run.noise
            return self.vae.decoder(latents + shaken).float(), raw

    def step(self) -> float:
        run = self.run
        large = 2 if self.done >= run.large_crop_from * run.steps else 1
        count = max(1, run.batch // large**2)
        pictures = self.source.batch(count, run.crop * large)
        output, raw = self.forward(pictures)
        loss = reconstruction_loss(output, pictures)
        loss.backward()
        workers.average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        rate = learning_rate(self.done, run.steps, run.decay_from)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if not run.decoder_of:
            self.scale.follow(raw.detach(), max(0.01, 1 / (self.done + 1)))
        self.average.update()
        self.done += 1
        return loss.item()

    def save(self, path: Path) -> None:
        state = {
            "done": self.done,
            "vae": self.vae.state_dict(),
            "scale": self.scale.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path)
        self.done = state["done"]
        self.vae.load_state_dict(state["vae"])
        self.scale.load_state_dict(state["scale"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])


@torch.no_grad()
def _rescale(vae: AutoencoderKL, mean: Tensor, spread: Tensor) -> None:
    """Let the encoder end in `(latents - mean) / spread`."""
    out, channels = vae.encoder.conv_out, settings.LATENT_CHANNELS
    out.weight[:channels] /= spread[:, None, None, None]
    out.bias[:channels] = (out.bias[:channels] - mean) / spread


@torch.no_grad()
def finished(path: Path) -> AutoencoderKL:
    """Return the averaged autoencoder of a checkpoint, its latents already of unit spread.

    A folder is taken for an exported model, and its autoencoder returned.
    """
    if path.is_dir():
        return AutoencoderKL.from_pretrained(path / MODEL_NAME / "vae", torch_dtype=torch.float32)
    state = torch.load(path)
    vae = AutoencoderKL(**settings.AUTOENCODER)
    for live, mean in zip(vae.parameters(), state["average"]["values"], strict=True):
        live.copy_(mean)
    scale = state["scale"]
    _rescale(vae, scale["mean"].flatten(), scale["spread"].flatten())
    # Log variance of the posterior: a constant, as no variance was learned.
    vae.encoder.conv_out.weight[settings.LATENT_CHANNELS :] = 0
    vae.encoder.conv_out.bias[settings.LATENT_CHANNELS :] = 2 * math.log(0.05)
    return vae.eval()


def train(rank: int, run: AutoencoderRun) -> None:
    """Train until `run.steps`, resuming from the folder's checkpoint where there is one."""
    folder = Path(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "autoencoder.pt"
    trainer = AutoencoderTrainer(run, rank)
    if checkpoint.exists():
        trainer.resume(checkpoint)
    if rank == 0:
        (folder / "autoencoder.json").write_text(json.dumps(asdict(run), indent=2) + "\n")
    started, losses = time.monotonic(), []
    while trainer.done < run.steps:
        losses.append(trainer.step())
        if rank == 0 and trainer.done % 50 == 0:
            line = {
                "step": trainer.done,
                "loss": round(sum(losses) / len(losses), 5),
                "seconds": round(time.monotonic() - started, 1),
            }
            with (folder / "autoencoder.log").open("a") as log:
                log.write(json.dumps(line) + "\n")
            losses.clear()
        if rank == 0 and (trainer.done % 200 == 0 or trainer.done == run.steps):
            trainer.save(checkpoint)
