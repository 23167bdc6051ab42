"""First noise, and the checkpoint's own sampler, one fresh object per image.

Noise is drawn on the CPU, the same for every device; steps are taken where the latents are.
"""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import NoneType
from typing import Any, Protocol

import torch
from diffusers.pipelines.hidream_image.pipeline_hidream_image import calculate_shift
from torch import Generator, Tensor


class DiffusersScheduler(Protocol):
    """What a diffusers scheduler offers that is used here."""

    timesteps: Tensor
    set_timesteps: Callable[..., None]
    step: Callable[..., tuple[Tensor, ...]]


#: What a scheduler may remember; its config is not among it.
_PLAIN = (Tensor, int, float, bool, str, NoneType, list)


class Sampler:
    """The noise schedule of one image, and its way from one step to the next."""

    def __init__(self, scheduler: DiffusersScheduler, steps: int, max_image_tokens: int) -> None:
        """Prepare `steps` steps; the scheduler must be fresh, it keeps state from step to step."""
        self._scheduler = scheduler
        self._draws_noise = "generator" in inspect.signature(scheduler.step).parameters
        # UniPC takes its shift from its config only; the others may shift with the image size.
        shift = calculate_shift(max_image_tokens)
        dynamic = {} if type(scheduler).__name__.startswith("UniPC") else {"mu": shift}
        scheduler.set_timesteps(steps, device="cpu", **dynamic)

    @property
    def timesteps(self) -> Tensor:
        """One value in (0, 1000] for each step."""
        return self._scheduler.timesteps

    def step(self, velocity: Tensor, index: int, latents: Tensor, generator: Generator) -> Tensor:
        """Return the latents after step `index`; noise comes from the image's own generator."""
        noise_source = {"generator": generator} if self._draws_noise else {}
        return self._scheduler.step(
            velocity, self.timesteps[index], latents, return_dict=False, **noise_source
        )[0]

    def state(self) -> dict[str, Any]:
        """Return a copy of all that the scheduler remembers from step to step."""
        remembered = vars(self._scheduler).items()
        return {name: deepcopy(value) for name, value in remembered if isinstance(value, _PLAIN)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` returned on a sampler of the same kind and steps."""
        for name, value in state.items():
            setattr(self._scheduler, name, value)


def first_noise(channels: int, height: int, width: int, generator: Generator) -> Tensor:
    """Return the latents that denoising starts from, [1, channels, height, width], fp32, CPU."""
    return torch.randn((1, channels, height, width), generator=generator, dtype=torch.float32)
