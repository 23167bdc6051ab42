"""Keeps painted pictures as latents on disk: made once, read by every training step.

A shard holds pictures of one size with their scenes; captions are written anew each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from . import settings
from .measure import mixing, sensitivity
from .painter import paint
from .scene import Scene, draw_scene

MEASURE = "measure.pt"
_SHARD = 100
#: The size of shard n: small pictures are cheap to learn from, so there are more of them; the
#: largest are the hardest to get right, so there are many of them too.
_KINDS = (0, 3, 0, 1, 3, 2, 0, 0, 3, 0, 1, 3, 2, 0, 3, 0)
#: How many of the pictures of a size are objects: in large ones they are what is hardest to learn.
_OBJECTS = (0.5, 0.5, 0.5, 0.75)


def kind_of(number: int) -> int:
    """Return which of the picture sizes the numbered shard holds."""
    return _KINDS[number % len(_KINDS)]


def make_shards(folder: Path, vae: AutoencoderKL, numbers: list[int], seed: int = 0) -> None:
    """Write the numbered shards that are missing; `kind_of` tells their sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    encode = torch.compile(vae.encoder, dynamic=False)
    for number in numbers:
        path = folder / f"shard-{number:05d}.pt"
        if not path.exists():
            shard = _shard(encode, number, seed)
            torch.save(shard, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)


def make_measure(folder: Path, vae: AutoencoderKL, *, exported: bool) -> None:
    """Write how latents are to be mixed; those of an exported model are so already."""
    path = folder / MEASURE
    if path.exists():
        return
    latents = torch.load(folder / "shard-00000.pt", weights_only=False)["latents"].float()
    matrix = torch.eye(latents.shape[1])
    if not exported:
        matrix = mixing(sensitivity(vae, latents[:6]), latents)
    torch.save(matrix, path)


@torch.no_grad()
def _shard(encode: Callable[[Tensor], Tensor], number: int, seed: int) -> dict:
    rng = Random(seed * 1_000_003 + number)
    numbers = np.random.default_rng(rng.randrange(2**63))
    kind = kind_of(number)
    height, width = settings.PICTURE_SIZES[kind]
    scenes, latents = [], []
    for _ in range(_SHARD):
        scene = draw_scene(rng, objects=_OBJECTS[kind])
        picture = torch.from_numpy(paint(scene, height, width, numbers))
        pixels = picture.permute(2, 0, 1)[None].float() / 127.5 - 1
        moments = encode(pixels.contiguous())
        latents.append(moments[:, : settings.LATENT_CHANNELS].half())
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
            kind = kind_of(int(path.stem.split("-")[1]))
            by_size[kind].append(torch.load(path, weights_only=False))
        self._sizes = {
            kind: _Size(
                [scene for shard in shards for scene in shard["scenes"]],
                torch.cat([shard["latents"] for shard in shards]),
            )
            for kind, shards in by_size.items()
        }
        self.shards = len(paths)

    def batch(self, kind: int, count: int, rng: Random) -> tuple[Tensor, list[Scene]]:
        size = self._sizes[kind]
        chosen = [rng.randrange(len(size.scenes)) for _ in range(count)]
        return size.latents[chosen].float(), [size.scenes[n] for n in chosen]
