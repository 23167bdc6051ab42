"""The engine's step cache against a plain loop over one image that applies the rule."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler
from torch import Tensor

from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.pipeline.denoise import ImageRun, denoise_step, guide, reuse_step
from hidream_server.pipeline.sampling import Sampler, first_noise
from hidream_server.pipeline.step_cache import StepCache

STEPS = 20
GUIDANCE = 3.0


@dataclass
class Formula:
    """A network that is a formula of all that it is given, and counts who was in its calls."""

    #: Of each call, how many rows.
    widths: list[int] = field(default_factory=list)

    def __call__(
        self, latents: Sequence[Tensor], timesteps: Tensor, rows: Conditioning
    ) -> list[Tensor]:
        self.widths.append(len(latents))
        return [
            torch.tanh(one * (0.4 + 0.1 * pooled.mean()) + timestep / 1000)
            for one, timestep, pooled in zip(latents, timesteps, rows.pooled, strict=True)
        ]


def unipc() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )


def begun(
    tolerance: float | None,
    *,
    rows: int = 2,
    steps: int = STEPS,
    seed: int = 0,
    scheduler: Callable[[], object] = unipc,
) -> ImageRun:
    """Return an image; without a tolerance it knows of no cache."""
    generator = torch.Generator().manual_seed(seed)
    return ImageRun(
        latents=first_noise(2, 6, 4, generator),
        generator=generator,
        sampler=Sampler(scheduler(), steps, max_image_tokens=256),
        conditioning=Conditioning(
            pooled=torch.arange(rows, dtype=torch.float32).view(rows, 1) + seed,
            t5=torch.zeros(rows, 1, 1),
            llama=torch.zeros(1, rows, 1, 1),
        ),
        guidance_scale=GUIDANCE,
        step_cache=None if tolerance is None else StepCache(tolerance, steps),
    )


@torch.inference_mode()
def plain_loop(image: ImageRun, tolerance: float) -> tuple[Tensor, list[int]]:
    """Return an image's last latents, and which steps were computed; by the rule as it is written.

    Everything is kept, and looked for when it is wanted.
    """
    x, v, computed = [image.latents], [], []
    steps = len(image.sampler.timesteps)
    for t in range(steps):
        if may_be_reused(t, x, v, computed, steps, tolerance):
            i = computed[-1]
            v.append(x[t] + (v[i] - x[i]))
        else:
            rows = [x[t]] * image.rows
            times = image.sampler.timesteps[t].expand(image.rows)
            v.append(-torch.cat(Formula()(rows, times, image.conditioning)))
            computed.append(t)
        velocity = guide(v[t], image.guidance_scale)
        x.append(image.sampler.step(velocity, t, x[t], image.generator))
    return x[-1], computed


def may_be_reused(
    t: int, x: list[Tensor], v: list[Tensor], computed: list[int], steps: int, tolerance: float
) -> bool:
    if t < 0.3 * steps or t == steps - 1 or len(computed) < 2:
        return False
    j, i = computed[-2:]
    positive = [rows[-1:] for rows in v]
    k = size(positive[i] - positive[j]) / size(x[i] - x[j])
    expected = [k * (size(x[n] - x[n - 1]) / size(positive[n - 1])) for n in range(i + 1, t + 1)]
    return sum(expected) < tolerance


def size(tensor: Tensor) -> float:
    return tensor.abs().mean().item()


def finish(images: Sequence[ImageRun], network: Formula) -> None:
    """Paint as the rank loop does: what needs no forward goes on by itself, others share one."""
    while left := [image for image in images if not image.finished]:
        if reusing := [image for image in left if image.reuses_next]:
            for image in reusing:
                reuse_step(image)
        else:
            denoise_step(left, network)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("tolerance", [0.02, 0.1, 0.4])
def test_an_image_is_that_of_the_plain_loop_by_the_rule(tolerance: float, rows: int) -> None:
    latents, computed = plain_loop(begun(None, rows=rows), tolerance)
    image = begun(tolerance, rows=rows)
    network = Formula()
    finish([image], network)
    assert torch.equal(image.latents, latents)
    assert len(network.widths) == len(computed)
    assert image.reused_steps == STEPS - len(computed)
    assert 0 < image.reused_steps < STEPS


def test_images_of_all_kinds_share_forwards_and_are_what_they_are_alone() -> None:
    kinds = [
        {"tolerance": 0.1, "seed": 1},
        {"tolerance": None, "seed": 2},
        {"tolerance": 0.4, "seed": 3, "rows": 1, "steps": 30},
        {"tolerance": 0.1, "seed": 4, "steps": 11},
        {"tolerance": None, "seed": 5, "rows": 1, "scheduler": FlowMatchLCMScheduler},
    ]
    images, network = [begun(**kind) for kind in kinds], Formula()
    finish(images, network)
    reused = 0
    for image, kind in zip(images, kinds, strict=True):
        latents, computed = plain_loop(begun(**kind | {"tolerance": None}), kind["tolerance"] or 0)
        assert torch.equal(image.latents, latents)
        left_out = len(image.sampler.timesteps) - len(computed)
        assert image.reused_steps == (None if kind["tolerance"] is None else left_out)
        reused += left_out * image.rows
    # Who reuses a step is in no forward for it.
    assert sum(network.widths) == sum(len(i.sampler.timesteps) * i.rows for i in images) - reused
    assert max(network.widths) == sum(image.rows for image in images)


def test_a_tolerance_of_nothing_changes_nothing() -> None:
    exact, without = begun(None), begun(0.0)
    finish([exact, without], Formula())
    assert torch.equal(exact.latents, without.latents)
    assert (exact.reused_steps, without.reused_steps) == (None, 0)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50])
def test_the_first_steps_and_the_last_are_computed_whatever_is_tolerated(steps: int) -> None:
    image = begun(1e9, steps=steps)
    computed = []
    while not image.finished:
        if image.reuses_next:
            reuse_step(image)
        else:
            computed.append(image.steps_done)
            denoise_step([image], Formula())
    first = max(2, math.ceil(0.3 * steps))
    assert computed == sorted({*range(min(first, steps)), steps - 1})


@pytest.mark.parametrize("output", [0.0, math.nan, math.inf])
def test_where_nothing_can_be_expected_every_step_is_computed(output: float) -> None:
    image, calls = begun(0.1, rows=1), []

    def network(latents: Sequence[Tensor], *_: object) -> list[Tensor]:
        calls.append(len(latents))
        return [torch.full_like(one, output) for one in latents]

    while not image.finished:
        assert not image.reuses_next
        denoise_step([image], network)
    assert len(calls) == STEPS


def test_a_forward_that_fails_changes_nothing_of_what_is_remembered() -> None:
    def broken(*_: object) -> list[Tensor]:
        raise RuntimeError("out of memory")

    expected, image = begun(0.1), begun(0.1)
    finish([expected], Formula())
    while not image.finished:
        if image.reuses_next:
            reuse_step(image)
            continue
        with pytest.raises(RuntimeError):
            denoise_step([image], broken)
        denoise_step([image], Formula())
    assert torch.equal(image.latents, expected.latents)
    assert image.reused_steps == expected.reused_steps


def test_a_preview_of_a_reused_step_is_near_what_will_be() -> None:
    image = begun(0.1)
    while not image.reuses_next:
        denoise_step([image], Formula())
    before = image.foreseen
    reuse_step(image)
    assert image.foreseen is not before
    assert torch.isfinite(image.foreseen).all()


def test_the_positive_row_decides() -> None:
    """What the negative row does, which is not of the picture, changes no decision."""
    images = [begun(0.1, rows=2) for _ in range(2)]
    other = images[1].conditioning
    images[1].conditioning = replace(other, pooled=torch.tensor([[5.0], [1.0]]))
    for image in images:
        image.guidance_scale = 1.0
    finish(images, Formula())
    assert images[0].reused_steps == images[1].reused_steps
