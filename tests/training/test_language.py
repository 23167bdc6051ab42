"""The text encoders learn to say what a caption names."""

import json
from pathlib import Path
from random import Random

import pytest
import torch

from training.export import fresh_components
from training.junk import with_strange_words
from training.language import (
    Examination,
    LanguageRun,
    answers,
    encoders,
    summaries,
    take_over,
    train,
)
from training.scene import CHOICES, attributes, draw_scene
from training.text import encode


def test_every_attribute_of_a_scene_is_a_question():
    rng = Random(0)
    for scene in (draw_scene(rng, objects=n % 2) for n in range(100)):
        for name, value in attributes(scene).items():
            assert value in CHOICES[name]


def test_what_a_family_does_not_have_is_not_asked():
    scenes = [draw_scene(Random(1), objects=1.0), draw_scene(Random(1), objects=0.0)]
    right = answers(scenes)
    assert (right["colour"] >= 0).tolist() == [True, False]
    assert (right["water"] >= 0).tolist() == [False, True]


def test_strange_words_leave_the_others_in_order():
    rng = Random(2)
    for _ in range(50):
        words = with_strange_words("a red circle", rng).split()
        assert [word for word in words if word in {"a", "red", "circle"}] == ["a", "red", "circle"]
        assert 4 <= len(words) <= 5


@torch.no_grad()
def test_a_summary_sees_the_whole_caption():
    parts = fresh_components(0)
    texts = ["a red circle on blue, top", "a red circle on blue, left"]
    for summary in summaries(encode(parts, texts, compact=True)):
        assert not torch.allclose(summary[0], summary[1], atol=1e-4)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    train(LanguageRun(folder=str(folder), steps=100, batch=48))
    return folder


def test_a_hundred_steps_teach_the_shapes_better_than_chance(taught):
    (line,) = (json.loads(text) for text in (taught / "language.log").read_text().splitlines())
    assert line["shape"] > 0.6


def test_taken_over_encoders_stay_as_they_are(taught):
    parts = fresh_components(1)
    take_over(parts, taught / "language.pt")
    saved = torch.load(taught / "language.pt")
    for module, state in zip(encoders(parts), saved, strict=True):
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_the_loss_asks_every_head():
    heads = Examination()
    parts = fresh_components(0)
    scenes = [draw_scene(Random(n)) for n in range(4)]
    heads.loss(encode(parts, ["a red circle"] * 4, compact=True), scenes).backward()
    assert all(parameter.grad is not None for parameter in heads.parameters())
