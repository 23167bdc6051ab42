"""The engine's pictures are those of a plain loop over the stock pipeline's parts."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import HiDreamImagePipeline
from numpy.typing import NDArray

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.devices.cpu import CPU
from hidream_server.model_directory.reading import describe
from hidream_server.parallel.network import Network
from hidream_server.parallel.place import alone
from hidream_server.pipeline.denoise import ImageRun
from hidream_server.task import InferType, TaskParams
from hidream_server.worker.assembly import assemble
from hidream_server.worker.device import open_device
from hidream_server.worker.model_runner import ModelRunner
from tests.reference import reference_picture, stock_pipeline
from tests.support import params, psnr

#: Of steps that tasks for Performance may reuse.
TOLERANCE = 0.1


@cache
def runner(model: Path) -> ModelRunner:
    description = describe(model, DEMO_EXTRA_MODEL_PATH)
    device = open_device(CPU, 0)
    return assemble(
        description, alone(), device, CPU.mixture, prompt_cache_bytes=2**20, step_cache=TOLERANCE
    )


@cache
def stock(model: Path) -> HiDreamImagePipeline:
    return stock_pipeline(model, DEMO_EXTRA_MODEL_PATH)


def paint(model: Path, task: TaskParams) -> list[NDArray[np.uint8]]:
    pictures = []
    for run in runner(model).begin(task):
        finish(model, [run])
        pictures.append(runner(model).decode(run))
    return pictures


def finish(model: Path, runs: list[ImageRun]) -> None:
    """Take images to their end, sharing forwards where they need one."""
    while left := [run for run in runs if not run.finished]:
        if reusing := [run for run in left if run.reuses_next]:
            for run in reusing:
                runner(model).reuse(run)
        else:
            runner(model).step(left)


def test_a_runner_knows_what_it_used() -> None:
    known = runner(DEMO_MODEL_PATH)
    before, found = known.prompt_lookups
    known.begin(params(prompt="a prompt of its own"))
    known.begin(params(prompt="a prompt of its own"))
    # The negative prompt of a guided task is looked up, too, and may have been known.
    after, cached = known.prompt_lookups
    assert after - before == 4
    assert cached - found in (2, 3)
    assert known.peak_memory_bytes() > 2**20


@pytest.fixture(params=["full", "fast"])
def model(request: pytest.FixtureRequest, fast_model: Path) -> Path:
    return DEMO_MODEL_PATH if request.param == "full" else fast_model


@pytest.mark.parametrize(
    ("width", "height"), [(512, 512), (1024, 1024), (1024, 768), (768, 1024), (192, 640)]
)
@pytest.mark.parametrize("guidance", [5.0, 0.0])
def test_a_picture_equals_the_plain_loop(
    model: Path, width: int, height: int, guidance: float
) -> None:
    task = params(width=width, height=height, guidance_scale=guidance, num_inference_steps=3)
    [picture] = paint(model, task)
    assert picture.shape == (height, width, 3)
    np.testing.assert_array_equal(picture, reference_picture(stock(model), task))


def test_a_negative_prompt_changes_a_guided_picture_as_in_the_plain_loop(model: Path) -> None:
    plain, other = params(), params(negative_prompt="a green square, blurry 模糊")
    [without], [with_negative] = paint(model, plain), paint(model, other)
    assert not np.array_equal(without, with_negative)
    np.testing.assert_array_equal(with_negative, reference_picture(stock(model), other))


def test_the_same_seed_twice_gives_the_same_bytes(model: Path) -> None:
    torch.manual_seed(1)
    [first] = paint(model, params(seed=7))
    torch.manual_seed(2)
    [second], [other] = paint(model, params(seed=7)), paint(model, params(seed=8))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_image_j_equals_the_single_request_with_seed_plus_j(model: Path) -> None:
    pictures = paint(model, params(seed=20, num_images=3))
    for index, picture in enumerate(pictures):
        [single] = paint(model, params(seed=20 + index))
        np.testing.assert_array_equal(picture, single)


def test_images_are_the_same_when_their_steps_are_interleaved(model: Path) -> None:
    """Samplers and generators keep state; none of it may be shared."""
    tasks = [params(seed=3), params(seed=4, guidance_scale=0.0, width=1024, num_inference_steps=6)]
    runs = [runner(model).begin(task)[0] for task in tasks]
    while not all(run.finished for run in runs):
        for run in runs:
            if not run.finished:
                runner(model).step([run])
    for task, run in zip(tasks, runs, strict=True):
        [alone] = paint(model, task)
        np.testing.assert_array_equal(runner(model).decode(run), alone)


def test_a_picture_says_how_it_was_made() -> None:
    about = runner(DEMO_MODEL_PATH).about(
        params(prompt="一个红色的圆", num_images=2), image_index=1
    )
    assert about["prompt"] == "一个红色的圆"
    assert about["seed"] == "43"
    assert about["resolution"] == "512x512"
    assert about["variant"] == "Full"
    assert "demo" in about["notice"]


def test_a_real_checkpoint_is_not_called_a_demo(fast_model: Path) -> None:
    assert "notice" not in runner(fast_model).about(params(), image_index=0)


def test_a_picture_in_16_bit_is_near_the_one_in_32(model: Path) -> None:
    description = describe(model, DEMO_EXTRA_MODEL_PATH)
    device = replace(open_device(CPU, 0), dtype=torch.bfloat16)
    coarse = assemble(description, alone(), device, CPU.mixture, prompt_cache_bytes=0)
    task = params(width=192, height=128, num_inference_steps=2)
    [run] = coarse.begin(task)
    while not run.finished:
        coarse.step([run])
    assert run.latents.dtype == torch.float32
    [fine] = paint(model, task)
    difference = np.abs(coarse.decode(run).astype(int) - fine.astype(int))
    assert difference.mean() < 8


def test_the_warm_up_leaves_no_trace() -> None:
    [before] = paint(DEMO_MODEL_PATH, params())
    runner(DEMO_MODEL_PATH).warm_up()
    [after] = paint(DEMO_MODEL_PATH, params())
    np.testing.assert_array_equal(before, after)


# Together


def test_images_of_all_kinds_share_steps_and_stay_what_they_are(model: Path) -> None:
    """Sizes of as many tokens, prompts, guidance and numbers of steps may differ."""
    tasks = [
        params(width=1024, height=1024, seed=3, num_inference_steps=3),
        params(width=1024, height=768, seed=4, guidance_scale=0.0, prompt="一个绿色的方块"),
        params(width=192, height=640, seed=5, negative_prompt="a star", num_inference_steps=2),
    ]
    runs = [runner(model).begin(task)[0] for task in tasks]
    assert {runner(model).tokens(task) for task in tasks} == {256}
    while left := [run for run in runs if not run.finished]:
        runner(model).step(left)
    for task, run in zip(tasks, runs, strict=True):
        [alone] = paint(model, task)
        assert psnr(runner(model).decode(run), alone) >= 40


def test_a_step_is_the_same_to_the_bit_whoever_takes_it_as_long_as_its_shape_is_the_same(
    model: Path,
) -> None:
    def latents(company: TaskParams) -> torch.Tensor:
        runs = [runner(model).begin(task)[0] for task in (params(seed=3), company)]
        while not runs[0].finished:
            runner(model).step(runs)
        return runs[0].latents

    company = [params(seed=seed, prompt=f"number {seed}", num_inference_steps=9) for seed in (1, 2)]
    first, second = map(latents, company)
    assert torch.equal(first, second)


# Steps that are not computed

PERFORMANCE = {"infer_type": InferType.PERFORMANCE, "num_inference_steps": 14}


@pytest.mark.parametrize("changes", [{}, {"guidance_scale": 0.0}, {"width": 768, "height": 1024}])
def test_a_picture_for_performance_is_that_of_the_plain_loop_by_the_rule(
    changes: dict[str, object],
) -> None:
    task = params(**PERFORMANCE | changes)
    [run] = runner(DEMO_MODEL_PATH).begin(task)
    finish(DEMO_MODEL_PATH, [run])
    assert 0 < run.reused_steps < 12
    picture = runner(DEMO_MODEL_PATH).decode(run)
    expected = reference_picture(stock(DEMO_MODEL_PATH), task, step_cache=TOLERANCE)
    np.testing.assert_array_equal(picture, expected)
    exact = reference_picture(stock(DEMO_MODEL_PATH), task)
    assert 20 < psnr(picture, exact) < 60


@pytest.mark.parametrize("infer_type", [InferType.ACCURACY, InferType.PROFILING])
def test_all_others_have_every_step_computed(infer_type: InferType) -> None:
    task = params(**PERFORMANCE | {"infer_type": infer_type})
    [run] = runner(DEMO_MODEL_PATH).begin(task)
    assert run.reused_steps is None
    finish(DEMO_MODEL_PATH, [run])
    expected = reference_picture(stock(DEMO_MODEL_PATH), task)
    np.testing.assert_array_equal(runner(DEMO_MODEL_PATH).decode(run), expected)


def test_without_a_tolerance_a_picture_for_performance_is_exact() -> None:
    description = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    plain = assemble(description, alone(), open_device(CPU, 0), CPU.mixture, prompt_cache_bytes=0)
    [run] = plain.begin(params(**PERFORMANCE))
    assert run.reused_steps is None
    assert run.step_cache is None


def test_images_with_and_without_reused_steps_share_forwards_and_stay_what_they_are() -> None:
    tasks = [params(**PERFORMANCE, seed=3), params(seed=4, num_inference_steps=14)]
    runs = [runner(DEMO_MODEL_PATH).begin(task)[0] for task in tasks]
    finish(DEMO_MODEL_PATH, runs)
    for task, run in zip(tasks, runs, strict=True):
        [alone] = paint(DEMO_MODEL_PATH, task)
        assert psnr(runner(DEMO_MODEL_PATH).decode(run), alone) >= 40
    assert runs[0].reused_steps > 0


def test_a_picture_says_how_many_steps_were_reused_where_any_could_be() -> None:
    about = partial(runner(DEMO_MODEL_PATH).about, params(), 0)
    assert about(reused_steps=7) == about() | {"reused_steps": "7"}
    assert about(reused_steps=0)["reused_steps"] == "0"
    assert "reused_steps" not in about()


# Steps in fp8


@pytest.fixture(scope="module")
def with_fp8() -> ModelRunner:
    description, device = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH), open_device(CPU, 0)
    return assemble(description, alone(), device, CPU.mixture, prompt_cache_bytes=0, fp8=True)


@pytest.mark.parametrize("guidance", [0.0, 5.0])
def test_in_fp8_a_picture_for_performance_is_near_and_others_are_exact(
    with_fp8: ModelRunner, guidance: float
) -> None:
    exact = params(num_inference_steps=6, guidance_scale=guidance)
    lossy = replace(exact, infer_type=InferType.PERFORMANCE)
    expected = reference_picture(stock(DEMO_MODEL_PATH), exact)
    for task in (lossy, exact):
        [run] = with_fp8.begin(task)
        while not run.finished:
            with_fp8.step([run])
        picture = with_fp8.decode(run)
        assert run.fp8_steps == (0 if task is exact else 6)
        if task is exact:
            np.testing.assert_array_equal(picture, expected)
        else:
            assert 25 < psnr(picture, expected) < 60
    assert with_fp8.about(lossy, 0, fp8_steps=1)["precision"] == "fp8"
    assert "precision" not in with_fp8.about(exact, 0)


def test_of_a_picture_begun_in_fp8_it_is_known_wherever_it_goes_on(with_fp8: ModelRunner) -> None:
    lossy = params(num_inference_steps=3, infer_type=InferType.PERFORMANCE)
    [begun], [exact] = with_fp8.begin(lossy), runner(DEMO_MODEL_PATH).begin(lossy)
    with_fp8.step([begun])
    runner(DEMO_MODEL_PATH).resume([exact], with_fp8.checkpoint([begun])())
    runner(DEMO_MODEL_PATH).step([exact])
    assert (exact.steps_done, exact.fp8_steps) == (2, 1)


class Noted:
    """A network that remembers which of its calls were in fp8."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.calls: list[bool] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def __call__(self, *rows: object, fp8: bool) -> list[torch.Tensor]:
        self.calls.append(fp8)
        return self._network(*rows, fp8=fp8)


def test_the_warm_up_takes_both_ways(with_fp8: ModelRunner, monkeypatch) -> None:
    noted = Noted(with_fp8._network)
    monkeypatch.setattr(with_fp8, "_network", noted)
    with_fp8.warm_up()
    assert noted.calls == [False] * 3 + [True] * 3


# Where memory runs out


class Scarce:
    """Stands for a device that has room for so many rows only."""

    def __init__(self, whole: Callable[..., object], rows: int) -> None:
        self._whole, self._rows = whole, rows
        self.widths: list[int] = []

    def __call__(self, latents: list[torch.Tensor], *rest: object, **how: object) -> object:
        self.widths.append(len(latents))
        if len(latents) > self._rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._whole(latents, *rest, **how)


def test_a_guided_step_without_room_is_taken_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DEMO_MODEL_PATH
    [expected] = paint(model, params())
    network = Scarce(runner(model)._call_network, rows=1)
    monkeypatch.setattr(runner(model), "_call_network", network)
    [picture] = paint(model, params())
    assert network.widths == [2, 1, 1] * 4
    assert psnr(picture, expected) >= 40


def test_what_a_failed_step_held_is_free_when_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = DEMO_MODEL_PATH
    [run] = runner(model).begin(params(num_inference_steps=1))
    whole, held = runner(model)._call_network, []

    def scarce(latents: list[torch.Tensor], *rest: object, **how: object) -> object:
        if len(latents) > 1:
            activations = torch.zeros(1)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert held[0]() is None
        return whole(latents, *rest, **how)

    monkeypatch.setattr(runner(model), "_call_network", scarce)
    runner(model).step([run])
    assert run.finished


def test_ranks_that_work_together_do_not_try_again_on_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = DEMO_MODEL_PATH
    [run] = runner(model).begin(params())
    network = Scarce(runner(model)._call_network, rows=1)
    monkeypatch.setattr(runner(model), "_call_network", network)
    monkeypatch.setattr(runner(model), "together", True)
    with pytest.raises(torch.OutOfMemoryError):
        runner(model).step([run])
    assert network.widths == [2]


def test_where_even_one_row_has_no_room_the_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DEMO_MODEL_PATH
    [run] = runner(model).begin(params())
    monkeypatch.setattr(runner(model), "_call_network", Scarce(lambda: None, rows=0))
    with pytest.raises(torch.OutOfMemoryError):
        runner(model).step([run])
    assert run.steps_done == 0


def test_several_images_without_room_are_left_to_whoever_drives_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = DEMO_MODEL_PATH
    runs = runner(model).begin(params(num_images=2))
    network = Scarce(runner(model)._call_network, rows=2)
    monkeypatch.setattr(runner(model), "_call_network", network)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        runner(model).step(runs)
    assert runner(model).is_out_of_memory(caught.value)
    assert network.widths == [4]


def test_other_errors_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("illegal memory access")

    model = DEMO_MODEL_PATH
    [run] = runner(model).begin(params())
    monkeypatch.setattr(runner(model), "_call_network", broken)
    with pytest.raises(RuntimeError, match="illegal") as caught:
        runner(model).step([run])
    assert not runner(model).is_out_of_memory(caught.value)


def test_a_picture_without_room_is_decoded_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DEMO_MODEL_PATH
    [run] = runner(model).begin(params(width=1024, height=1024, num_inference_steps=2))
    while not run.finished:
        runner(model).step([run])
    expected = runner(model).decode(run)
    vae = runner(model)._model.vae
    whole = vae.decoder.forward

    def scarce(latents: torch.Tensor) -> torch.Tensor:
        if latents.shape[-1] >= 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(latents)

    monkeypatch.setattr(vae.decoder, "forward", scarce)
    tiled = runner(model).decode(run)
    assert tiled.shape == expected.shape
    assert not vae.use_tiling
    assert psnr(tiled, expected) > 20


# Previews


def test_the_preview_map_is_that_of_the_autoencoder() -> None:
    channels = runner(DEMO_MODEL_PATH)._model.vae.config.latent_channels
    shares = runner(DEMO_MODEL_PATH).fit_preview_map()
    assert [len(channel) for channel in shares] == [3] * (channels + 1)
