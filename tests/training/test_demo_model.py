"""The shipped demo model paints what held-out prompts say: the scorer, on a part of its list."""

from random import Random

import numpy as np
import pytest
import torch
from safetensors import safe_open

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from training.autoencoder import psnr
from training.export import load
from training.generate import Generator
from training.judge import Score, judge
from training.painter import paint
from training.prompts import read_prompts
from training.scene import draw_scene

PROMPTS = 20
MODEL = DEMO_MODEL_PATH.parent


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(load(MODEL))


@pytest.fixture(scope="module")
def score(generator) -> Score:
    return judge(generator, read_prompts()[:PROMPTS])


def test_objects_have_the_named_look_and_place(score):
    assert score["object look"] >= 0.9
    assert score["object place"] >= 0.9


def test_landscapes_show_the_named_features(score):
    assert score["landscape time"] >= 0.9
    assert score["landscape mean"] >= 0.95


def test_chinese_is_understood(score):
    assert score["zh all"] >= 0.9


def test_the_fast_sampler_paints_it_too(generator):
    score = judge(generator, read_prompts()[:PROMPTS], steps=16, fast=True)
    assert score["object mean"] >= 0.9


def test_chance_scores_low(generator):
    """The bounds above mean something: another prompt's pictures do not reach them."""
    prompts = read_prompts()[:PROMPTS]
    others = [prompts[n - 2] for n in range(len(prompts))]
    swapped = [
        type(prompt)(
            text=other.text,
            family=prompt.family,
            language=prompt.language,
            expected=prompt.expected,
        )
        for prompt, other in zip(prompts, others, strict=True)
    ]
    score = judge(generator, swapped, steps=16, fast=True)
    assert score["object look"] <= 0.2


@torch.no_grad()
def test_the_autoencoder_is_sharp(generator):
    rng, numbers = Random(99), np.random.default_rng(99)
    values = []
    for _ in range(12):
        picture = paint(draw_scene(rng, unseen=True), 512, 512, numbers)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        latents = generator.parts.vae.encode(pixels).latent_dist.mean
        values.append(psnr(generator.parts.vae.decode(latents).sample, pixels).item())
    assert np.mean(values) >= 32
    assert min(values) >= 28


def test_weights_are_half_precision_and_small():
    files = [*DEMO_MODEL_PATH.rglob("*.safetensors"), *DEMO_EXTRA_MODEL_PATH.rglob("*.safetensors")]
    assert len(files) == 6
    for path in files:
        with safe_open(path, "pt") as weights:
            names = weights.keys()
            assert {weights.get_slice(name).get_dtype() for name in names} == {"F16"}
    folders = (DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*"))
    assert size <= 20e6
