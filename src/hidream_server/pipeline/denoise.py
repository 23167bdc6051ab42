"""The denoise loop, one step at a time, so that whoever drives it may do other things between.

Takes the network as a function of rows, each at its own timestep; it may be anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from hidream_server.errors import SamplingError
from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.pipeline.sampling import Sampler
from hidream_server.pipeline.step_cache import StepCache

#: R latents [1, C, H, W], timesteps [R] on the CPU, conditioning of R rows → R outputs
#: [1, C, H, W], fp32, where the latents are.
Network = Callable[[Sequence[Tensor], Tensor, Conditioning], Sequence[Tensor]]


@dataclass(slots=True, kw_only=True)
class ImageRun:
    """An image on its way from noise to latents; `conditioning` has two rows if it is guided."""

    #: [1, C, H, W], fp32, where the sampler is to take its steps.
    latents: Tensor
    generator: Generator
    sampler: Sampler
    #: Rows: negative, positive; or positive alone.
    conditioning: Conditioning
    guidance_scale: float
    #: If some of its steps may be left out.
    step_cache: StepCache | None = None
    #: Its forwards multiply in fp8, and are shared with none that do not.
    fp8: bool = False
    #: So many did.
    fp8_steps: int = 0
    steps_done: int = 0
    #: The picture as the last step foresaw it, in latents.
    foreseen: Tensor | None = None

    @property
    def rows(self) -> int:
        return self.conditioning.rows

    @property
    def finished(self) -> bool:
        return self.steps_done == len(self.sampler.timesteps)

    @property
    def timestep(self) -> Tensor:
        """Of the next step."""
        return self.sampler.timesteps[self.steps_done]

    @property
    def reuses_next(self) -> bool:
        """The next step is to be taken by `reuse_step`."""
        return self.step_cache is not None and self.step_cache.reuses_next

    @property
    def reused_steps(self) -> int | None:
        """How many were taken so; None where every step has to be computed."""
        return None if self.step_cache is None else self.step_cache.reused


@torch.inference_mode()
def denoise_step(runs: Sequence[ImageRun], network: Network) -> None:
    """Take images one step further, each from where it is, all in one call of the network.

    What the network raises leaves the images as they were; a sampler's failure, which is raised as
    SamplingError, leaves them anywhere.
    """
    latents = [run.latents for run in runs for _ in range(run.rows)]
    timesteps = torch.stack([run.timestep for run in runs for _ in range(run.rows)])
    conditioning = Conditioning.stack([run.conditioning for run in runs])
    outputs = iter(network(latents, timesteps, conditioning))
    try:
        for run in runs:
            # The published network is trained towards data minus noise; samplers want the opposite.
            velocities = -torch.cat([next(outputs) for _ in range(run.rows)])
            if run.step_cache is not None:
                run.step_cache.computed(run.latents, velocities)
            run.fp8_steps += run.fp8
            _advance(run, velocities)
    except Exception as error:
        raise SamplingError(f"A sampler failed in the middle of a step: {error}") from error


@torch.inference_mode()
def reuse_step(run: ImageRun) -> None:
    """Take an image one step further without the network, by what it said at an earlier step."""
    assert run.step_cache is not None
    _advance(run, run.step_cache.reuse(run.latents))


def _advance(run: ImageRun, velocities: Tensor) -> None:
    before, velocity = run.latents, guide(velocities, run.guidance_scale)
    # On the straight way from data to noise the timestep says how far one has come, in thousandths.
    run.foreseen = before - velocity * (run.timestep / 1000)
    run.latents = run.sampler.step(velocity, run.steps_done, before, run.generator)
    run.steps_done += 1
    if run.step_cache is not None:
        run.step_cache.moved(before, run.latents, velocities, run.steps_done)


def guide(velocity: Tensor, scale: float) -> Tensor:
    """Combine a negative and a positive row into one, as classifier-free guidance does.

    One row passes unchanged. Source: Ho and Salimans, https://arxiv.org/abs/2207.12598.
    """
    if velocity.shape[0] == 1:
        return velocity
    negative, positive = velocity.chunk(2)
    return negative + scale * (positive - negative)
