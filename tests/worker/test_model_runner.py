"""The engine's pictures are those of a plain loop over the stock pipeline's parts."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import HiDreamImagePipeline
from numpy.typing import NDArray

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.devices.cpu import CPU
from hidream_server.model_directory.reading import describe
from hidream_server.parallel.place import alone
from hidream_server.task import TaskParams
from hidream_server.worker.assembly import assemble
from hidream_server.worker.device import open_device
from hidream_server.worker.model_runner import ModelRunner
from tests.reference import reference_picture, stock_pipeline
from tests.support import params


@cache
def runner(model: Path) -> ModelRunner:
    description = describe(model, DEMO_EXTRA_MODEL_PATH)
    device = open_device(CPU, 0)
    return assemble(description, alone(), device, CPU.expert_product, prompt_cache_bytes=2**20)


@cache
def stock(model: Path) -> HiDreamImagePipeline:
    return stock_pipeline(model, DEMO_EXTRA_MODEL_PATH)


def paint(model: Path, task: TaskParams) -> list[NDArray[np.uint8]]:
    pictures = []
    for run in runner(model).begin(task):
        while not run.finished:
            runner(model).step(run)
        pictures.append(runner(model).decode(run))
    return pictures


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
                runner(model).step(run)
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
    coarse = assemble(description, alone(), device, CPU.expert_product, prompt_cache_bytes=0)
    task = params(width=192, height=128, num_inference_steps=2)
    [run] = coarse.begin(task)
    while not run.finished:
        coarse.step(run)
    assert run.latents.dtype == torch.float32
    [fine] = paint(model, task)
    difference = np.abs(coarse.decode(run).astype(int) - fine.astype(int))
    assert difference.mean() < 8


def test_the_warm_up_leaves_no_trace() -> None:
    [before] = paint(DEMO_MODEL_PATH, params())
    runner(DEMO_MODEL_PATH).warm_up()
    [after] = paint(DEMO_MODEL_PATH, params())
    np.testing.assert_array_equal(before, after)
