"""Keeps painted pictures as latents on disk: made once, read by every training step.

A shard holds pictures of one size with their scenes; captions are written anew each time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from . import settings
from .painter import paint
from .scene import Scene, draw_scene

_SHARD = 100


def make_shards(folder: Path, vae: AutoencoderKL, numbers: list[int], seed: int = 0) -> None:
    """Write the numbered shards that are missing; shard n has size n modulo four."""
    folder.mkdir(parents=True, exist_ok=True)
    vae = vae.to(memory_format=torch.channels_last)
    for number in numbers:
        path = folder / f"shard-{number:05d}.pt"
        if not path.exists():
            shard = _shard(vae, number, seed)
            torch.save(shard, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)


@torch.no_grad()
def _shard(vae: AutoencoderKL, number: int, seed: int) -> dict:
    rng = Random(seed * 1_000_003 + number)
    numbers = np.random.default_rng(rng.randrange(2**63))
    height, width = settings.PICTURE_SIZES[number % len(settings.PICTURE_SIZES)]
    scenes, latents = [], []
    for _ in range(_SHARD):
        scene = draw_scene(rng)
        picture = torch.from_numpy(paint(scene, height, width, numbers))
        pixels = picture.permute(2, 0, 1)[None].float() / 127.5 - 1
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents.append(vae.encode(pixels).latent_dist.mean.half())
        scenes.append(scene)
    return {"scenes": scenes, "latents": torch.cat(latents)}


@dataclass(slots=True)
class _Size:
    scenes: list[Scene]
    latents: Tensor


class LatentPool:
    """All shards in memory, by picture size."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: dict[int, _Size] = {}
        self.shards = 0
        self.reload()

    def reload(self) -> None:
        """Read the shards on disk, if there are new ones."""
        paths = sorted(self._folder.glob("shard-*.pt"))
        if len(paths) == self.shards:
            return
        by_size: dict[int, list[dict]] = defaultdict(list)
        for path in paths:
            kind = int(path.stem.split("-")[1]) % len(settings.PICTURE_SIZES)
            by_size[kind].append(torch.load(path, weights_only=False))
        self._sizes = {
            kind: _Size(
                [scene for shard in shards for scene in shard["scenes"]],
                torch.cat([shard["latents"] for shard in shards]),
            )
            for kind, shards in by_size.items()
        }
        self.shards = len(paths)

    def spread(self) -> Tensor:
        """Return the root mean square of each latent channel."""
        values = [size.latents.float().transpose(0, 1).flatten(1) for size in self._sizes.values()]
        return torch.cat(values, 1).square().mean(1).sqrt()

    def batch(self, kind: int, count: int, rng: Random) -> tuple[Tensor, list[Scene]]:
        size = self._sizes[kind]
        chosen = [rng.randrange(len(size.scenes)) for _ in range(count)]
        return size.latents[chosen].float(), [size.scenes[n] for n in chosen]
