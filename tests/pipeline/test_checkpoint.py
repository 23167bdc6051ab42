"""An image that goes on from a checkpoint ends like one that was never interrupted, to the bit."""

from collections.abc import Sequence

import diffusers
import pytest
import torch
from torch import Tensor

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.pipeline.checkpoint import pack, restore, snapshot, unpack
from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.pipeline.denoise import ImageRun, denoise_step
from hidream_server.pipeline.sampling import Sampler, first_noise

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


def begun(scheduler: str, seed: int = 1) -> ImageRun:
    cls = getattr(diffusers, scheduler)
    generator = torch.Generator().manual_seed(seed)
    return ImageRun(
        latents=first_noise(4, 6, 6, generator),
        generator=generator,
        sampler=Sampler(
            cls.from_config(cls.load_config(DEMO_MODEL_PATH / SCHEDULERS[scheduler])), STEPS, 64
        ),
        conditioning=Conditioning(
            pooled=torch.ones(2, 3), t5=torch.ones(2, 1, 1), llama=torch.ones(1, 2, 1, 1)
        ),
        guidance_scale=3.0,
    )


def finish(image: ImageRun) -> Tensor:
    while not image.finished:
        denoise_step([image], network)
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
