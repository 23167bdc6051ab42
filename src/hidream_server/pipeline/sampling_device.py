"""Finds out whether a device can take a sampler's steps itself.

Then latents stay there from the first noise to the last step, and the device does not idle while
they come to the host, are moved on by one thread, and return. Knows the device by trying it.
"""

import logging
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from hidream_server.pipeline.sampling import DiffusersScheduler, Sampler, first_noise

logger = logging.getLogger(__name__)

#: Enough for a sampler of several steps' memory to have used all of it.
_STEPS = 4
_SHAPE = (4, 8, 8)
#: Of values around one; a device rounds differently, and does nothing else differently.
_ROUNDING = 1e-4

_CPU = torch.device("cpu")


def sampling_device(
    new_scheduler: Callable[[], DiffusersScheduler], device: torch.device, max_image_tokens: int
) -> torch.device:
    """Return `device` if a walk there leads where it leads on the CPU, and else the CPU."""

    def walk(place: torch.device) -> Tensor:
        return _walk(Sampler(new_scheduler(), _STEPS, max_image_tokens), place)

    expected = walk(_CPU)
    try:
        found = walk(device)
    except Exception as error:
        # Not every device solves UniPC's linear system; each library says so in its own way.
        logger.info("The sampler stays on the CPU: %s", error)
        return _CPU
    if not torch.allclose(found, expected, rtol=_ROUNDING, atol=_ROUNDING):
        logger.warning("The sampler stays on the CPU: the device computes something else")
        return _CPU
    return device


@torch.inference_mode()
def _walk(sampler: Sampler, device: torch.device) -> Tensor:
    """Return, on the CPU, where a walk ends whose velocity changes: else no system is solved."""
    generator = Generator("cpu").manual_seed(0)
    latents = first_noise(*_SHAPE, generator).to(device)
    for index in range(_STEPS):
        velocity = torch.tanh(latents * (1 + index))
        latents = sampler.step(velocity, index, latents, generator)
    return latents.cpu()
