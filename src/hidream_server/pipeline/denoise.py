"""The denoise loop, one step at a time, so that whoever drives it may do other things between.

Takes the network as a function of latents, timesteps and conditioning; it may be anything.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.pipeline.sampling import Sampler

#: latents [R, C, H, W], timesteps [R], conditioning of R rows → output [R, C, H, W], fp32, CPU.
Network = Callable[[Tensor, Tensor, Conditioning], Tensor]


@dataclass(slots=True, kw_only=True)
class ImageRun:
    """An image on its way from noise to latents; `conditioning` has two rows if it is guided."""

    #: [1, C, H, W], fp32, CPU.
    latents: Tensor
    generator: Generator
    sampler: Sampler
    #: Rows: negative, positive; or positive alone.
    conditioning: Conditioning
    guidance_scale: float
    steps_done: int = 0

    @property
    def finished(self) -> bool:
        return self.steps_done == len(self.sampler.timesteps)


@torch.inference_mode()
def denoise_step(run: ImageRun, network: Network) -> None:
    """Take one image one step further."""
    rows = run.conditioning.rows
    timestep = run.sampler.timesteps[run.steps_done]
    output = network(torch.cat([run.latents] * rows), timestep.expand(rows), run.conditioning)
    # The published network is trained towards data minus noise; samplers want the opposite.
    velocity = guide(-output, run.guidance_scale)
    run.latents = run.sampler.step(velocity, run.steps_done, run.latents, run.generator)
    run.steps_done += 1


def guide(velocity: Tensor, scale: float) -> Tensor:
    """Combine a negative and a positive row into one, as classifier-free guidance does.

    One row passes unchanged. Source: Ho and Salimans, https://arxiv.org/abs/2207.12598.
    """
    if velocity.shape[0] == 1:
        return velocity
    negative, positive = velocity.chunk(2)
    return negative + scale * (positive - negative)
