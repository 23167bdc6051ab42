"""Turns prompts into pictures with a loaded model: a plain loop, for judging only."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler
from torch import Tensor

from . import settings
from .counted import CountedTransformer
from .export import Components
from .text import encode


class Generator:
    """Paints with the exact function the server computes, on compact text (see text.py)."""

    def __init__(self, parts: Components) -> None:
        self.parts = parts
        self.transformer = CountedTransformer(parts.transformer)

    @torch.no_grad()
    def paint(
        self,
        prompts: list[str],
        size: tuple[int, int] = (512, 512),
        *,
        steps: int = 50,
        guidance: float = 5.0,
        seed: int = 0,
        fast: bool = False,
    ) -> list[np.ndarray]:
        """Return one picture per prompt; `fast` samples like a distilled checkpoint."""
        guided = guidance > 1 and not fast
        text = encode(self.parts, [""] * len(prompts) * guided + prompts, compact=True)
        scheduler = _scheduler(fast)
        scheduler.set_timesteps(steps)
        noise = torch.Generator().manual_seed(seed)
        height, width = (side // settings.VAE_FACTOR for side in size)
        shape = (len(prompts), settings.LATENT_CHANNELS, height, width)
        latents = torch.randn(shape, generator=noise)
        extra = {"generator": noise} if fast else {}
        for timestep in scheduler.timesteps:
            both = torch.cat([latents, latents]) if guided else latents
            output = -self.transformer.picture(both, timestep.expand(len(both)), text)
            if guided:
                free, bound = output.chunk(2)
                output = free + guidance * (bound - free)
            latents = scheduler.step(output, timestep, latents, **extra).prev_sample
        return self._decode(latents)

    def _decode(self, latents: Tensor) -> list[np.ndarray]:
        pictures = []
        for latent in latents:
            pixels = self.parts.vae.decode(latent[None]).sample[0].permute(1, 2, 0)
            pictures.append(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().numpy())
        return pictures


def _scheduler(fast: bool) -> FlowMatchLCMScheduler | UniPCMultistepScheduler:
    if fast:
        return FlowMatchLCMScheduler(**settings.FAST_SCHEDULER)
    return UniPCMultistepScheduler(**settings.SCHEDULER)
