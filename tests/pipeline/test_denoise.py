"""One step of the loop, on a network that is a formula."""

import pytest
import torch
from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler
from torch import Tensor

from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.pipeline.denoise import ImageRun, denoise_step, guide
from hidream_server.pipeline.sampling import Sampler, first_noise

TARGET = torch.full((1, 2, 4, 4), 0.5)


def network(latents: Tensor, timesteps: Tensor, _: Conditioning) -> Tensor:
    """The ideal velocity from any point towards TARGET, with the network's inverted sign."""
    sigma = timesteps.float().view(-1, 1, 1, 1) / 1000
    return -(latents - TARGET) / sigma


def conditioning(rows: int) -> Conditioning:
    return Conditioning(
        pooled=torch.zeros(rows, 1), t5=torch.zeros(rows, 1, 1), llama=torch.zeros(1, rows, 1, 1)
    )


def run_of(scheduler: object, rows: int = 1, steps: int = 8, seed: int = 0) -> ImageRun:
    generator = torch.Generator().manual_seed(seed)
    return ImageRun(
        latents=first_noise(2, 4, 4, generator),
        generator=generator,
        sampler=Sampler(scheduler, steps, max_image_tokens=256),
        conditioning=conditioning(rows),
        guidance_scale=5.0,
    )


def unipc() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("scheduler", [unipc, FlowMatchLCMScheduler])
def test_an_ideal_network_is_followed_to_its_target(scheduler: type, rows: int) -> None:
    run = run_of(scheduler(), rows)
    while not run.finished:
        denoise_step(run, network)
    assert run.steps_done == 8
    torch.testing.assert_close(run.latents, TARGET, atol=1e-2, rtol=0)


def test_step_noise_comes_from_the_image_alone() -> None:
    first, second = run_of(FlowMatchLCMScheduler()), run_of(FlowMatchLCMScheduler())
    torch.manual_seed(1)
    denoise_step(first, network)
    torch.manual_seed(2)
    denoise_step(second, network)
    assert torch.equal(first.latents, second.latents)


def test_guidance_extrapolates_from_the_negative_row() -> None:
    rows = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    assert guide(rows, 5.0).item() == 11.0
    assert guide(rows[1:], 5.0).item() == 3.0
