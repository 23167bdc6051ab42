"""An image that goes on from a checkpoint ends like one that was never interrupted, to the bit."""

from collections.abc import Sequence

import diffusers
import pytest
import torch
from torch import Tensor

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.pipeline.checkpoint import pack, restore, snapshot, unpack
from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.pipeline.denoise import ImageRun, denoise_step, reuse_step
from hidream_server.pipeline.sampling import Sampler, first_noise
from hidream_server.pipeline.step_cache import StepCache

STEPS = 7
SCHEDULERS = {"UniPCMultistepScheduler": "scheduler", "FlowMatchLCMScheduler": "scheduler_fast"}


def network(
    latents: Sequence[Tensor], timesteps: Tensor, conditioning: Conditioning
) -> list[Tensor]:
    """Depend on everything a network is given."""
    return [
        torch.sin(3 * one) * timestep / 1000 + conditioning.pooled.mean()
        for one, timestep in zip(latents, timesteps, strict=True)
    ]


def begun(scheduler: str, seed: int = 1, tolerance: float = 0.0, steps: int = STEPS) -> ImageRun:
    cls = getattr(diffusers, scheduler)
    generator = torch.Generator().manual_seed(seed)
    return ImageRun(
        latents=first_noise(4, 6, 6, generator),
        generator=generator,
        sampler=Sampler(
            cls.from_config(cls.load_config(DEMO_MODEL_PATH / SCHEDULERS[scheduler])), steps, 64
        ),
        conditioning=Conditioning(
            pooled=torch.ones(2, 3), t5=torch.ones(2, 1, 1), llama=torch.ones(1, 2, 1, 1)
        ),
        guidance_scale=3.0,
        step_cache=StepCache(tolerance, steps) if tolerance else None,
    )


def step(image: ImageRun) -> None:
    if image.reuses_next:
        reuse_step(image)
    else:
        denoise_step([image], network)


def finish(image: ImageRun) -> Tensor:
    while not image.finished:
        step(image)
    return image.latents


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_going_on_is_the_same_as_never_having_stopped(scheduler: str, steps: int) -> None:
    expected = finish(begun(scheduler))
    image = begun(scheduler)
    for _ in range(steps):
        denoise_step([image], network)
    saved = snapshot([image])
    finish(image)  # What comes after the copy does not change it.
    again = begun(scheduler, seed=99)
    restore([again], unpack(pack(saved, "model"), "model"))
    assert again.steps_done == steps
    assert torch.equal(finish(again), expected)


CACHED = {"scheduler": "UniPCMultistepScheduler", "tolerance": 0.2, "steps": 24}


@pytest.mark.parametrize("steps", range(CACHED["steps"] + 1))
def test_what_is_known_for_steps_without_a_forward_goes_on_as_well(steps: int) -> None:
    expected = begun(**CACHED)
    finish(expected)
    assert 0 < expected.reused_steps < CACHED["steps"]
    image = begun(**CACHED)
    for _ in range(steps):
        step(image)
    saved = pack(snapshot([image]), "model")
    finish(image)
    again = begun(**CACHED, seed=99)
    restore([again], unpack(saved, "model"))
    assert torch.equal(finish(again), expected.latents)
    assert again.reused_steps == expected.reused_steps


def test_where_steps_are_not_left_out_any_more_it_is_still_known_how_many_were() -> None:
    image = begun(**CACHED)
    while not image.reuses_next:
        step(image)
    step(image)
    again = begun(**CACHED | {"tolerance": 0.0})
    restore([again], unpack(pack(snapshot([image]), "model"), "model"))
    while not again.finished:
        assert not again.reuses_next
        step(again)
    assert again.reused_steps == 1


def test_what_was_begun_without_a_cache_goes_on_with_one() -> None:
    image = begun(**CACHED | {"tolerance": 0.0})
    step(image)
    again = begun(**CACHED)
    [state] = snapshot([image])
    # As an earlier version wrote it.
    del state["step_cache"]
    restore([again], [state])
    finish(again)
    assert again.reused_steps > 0


def test_a_checkpoint_of_another_model_is_refused() -> None:
    data = pack(snapshot([begun("UniPCMultistepScheduler")]), "HiDream-I1-Full")
    with pytest.raises(ValueError, match="belongs to HiDream-I1-Full"):
        unpack(data, "HiDream-I1-Fast")


@pytest.mark.parametrize("data", [b"", b"nothing", pack([], "m")[:-40]])
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        unpack(data, "m")


def test_another_number_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="1 images"):
        restore([], snapshot([begun("UniPCMultistepScheduler")]))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_what_is_remembered_goes_where_the_latents_of_the_new_image_are(scheduler: str) -> None:
    image = begun(scheduler, tolerance=0.5)
    for _ in range(4):
        step(image)
    elsewhere = begun(scheduler)
    elsewhere.latents = elsewhere.latents.to("meta")
    restore([elsewhere], unpack(pack(snapshot([image]), "model"), "model"))
    remembered = [elsewhere.latents, *tensors(elsewhere.sampler.state())]
    remembered += tensors(elsewhere.step_cache.state())
    assert {tensor.device.type for tensor in remembered if tensor.ndim == 4} == {"meta"}
    assert {tensor.device.type for tensor in remembered if tensor.ndim < 4} == {"cpu"}


def tensors(state: object) -> list[Tensor]:
    """Return all tensors in a state."""
    match state:
        case Tensor():
            return [state]
        case dict():
            return [tensor for part in state.values() for tensor in tensors(part)]
        case list():
            return [tensor for part in state for tensor in tensors(part)]
    return []
