"""One step of the loop, on a network that is a formula."""

from collections.abc import Sequence

import pytest
import torch
from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler
from torch import Tensor

from hidream_server.errors import SamplingError
from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.pipeline.denoise import ImageRun, denoise_step, guide
from hidream_server.pipeline.sampling import Sampler, first_noise

TARGET = torch.full((1, 2, 4, 4), 0.5)


def network(latents: Sequence[Tensor], timesteps: Tensor, _: Conditioning) -> list[Tensor]:
    """The ideal velocity from any point towards TARGET, with the network's inverted sign."""
    sigmas = timesteps.float() / 1000
    return [-(one - TARGET) / sigma for one, sigma in zip(latents, sigmas, strict=True)]


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
        denoise_step([run], network)
    assert run.steps_done == 8
    torch.testing.assert_close(run.latents, TARGET, atol=1e-2, rtol=0)


def test_step_noise_comes_from_the_image_alone() -> None:
    first, second = run_of(FlowMatchLCMScheduler()), run_of(FlowMatchLCMScheduler())
    torch.manual_seed(1)
    denoise_step([first], network)
    torch.manual_seed(2)
    denoise_step([second], network)
    assert torch.equal(first.latents, second.latents)


def test_a_sampler_that_fails_is_told_from_a_network_that_does() -> None:
    run = run_of(unipc())
    run.sampler.step = lambda *_: 1 / 0
    with pytest.raises(SamplingError, match="division by zero"):
        denoise_step([run], network)

    def broken(*_: object) -> list[Tensor]:
        raise ValueError("no network")

    before = run.latents.clone()
    with pytest.raises(ValueError, match="no network"):
        denoise_step([run], broken)
    assert torch.equal(run.latents, before)
    assert run.steps_done == 0


def test_guidance_extrapolates_from_the_negative_row() -> None:
    rows = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    assert guide(rows, 5.0).item() == 11.0
    assert guide(rows[1:], 5.0).item() == 3.0


def test_images_of_all_kinds_take_a_step_together_as_they_would_alone() -> None:
    def images() -> list[ImageRun]:
        kinds = [(unipc(), 2, 8), (FlowMatchLCMScheduler(), 1, 3), (unipc(), 1, 5)]
        runs = [run_of(*kind, seed=seed) for seed, kind in enumerate(kinds)]
        denoise_step(runs[:1], network)
        return runs

    together, alone = images(), images()
    for _ in range(3):
        denoise_step(together, network)
        for run in alone:
            denoise_step([run], network)
    assert [run.steps_done for run in together] == [4, 3, 3]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.latents, other.latents)


def test_each_row_has_its_own_timestep_latents_and_conditioning() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def watching(latents: Sequence[Tensor], timesteps: Tensor, rows: Conditioning) -> list[Tensor]:
        assert len(latents) == len(timesteps) == rows.rows == 3
        seen.extend(zip(latents, timesteps, strict=True))
        return list(latents)

    guided, plain = run_of(unipc(), rows=2), run_of(unipc(), steps=3, seed=1)
    expected = [(guided.latents, guided.timestep)] * 2 + [(plain.latents, plain.timestep)]
    denoise_step([guided, plain], watching)
    for (latents, timestep), (wanted, when) in zip(seen, expected, strict=True):
        assert torch.equal(latents, wanted)
        assert timestep == when


def test_what_is_foreseen_comes_nearer_to_what_will_be() -> None:
    run = run_of(unipc())
    denoise_step([run], network)
    torch.testing.assert_close(run.foreseen, TARGET, atol=1e-4, rtol=0)


def test_a_network_that_fails_leaves_the_images_where_they_were() -> None:
    def broken(*_: object) -> list[Tensor]:
        raise RuntimeError("out of memory")

    run = run_of(unipc())
    before = run.latents.clone()
    with pytest.raises(RuntimeError):
        denoise_step([run], broken)
    assert run.steps_done == 0
    assert torch.equal(run.latents, before)
