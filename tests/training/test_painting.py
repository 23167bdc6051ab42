"""The painter, the captions and the reader agree about what a scene shows."""

from random import Random

import numpy as np
import pytest

from training.captions import caption
from training.painter import paint
from training.prompts import draw_prompts, expectations, read_prompts
from training.reading import read_landscape, read_object
from training.scene import ObjectScene, attributes, draw_scene, held_out


def test_a_seed_paints_the_same_picture_again():
    scene = draw_scene(Random(1))
    first, second = (paint(scene, 96, 128, np.random.default_rng(7)) for _ in range(2))
    assert first.shape == (96, 128, 3)
    assert np.array_equal(first, second)


def test_training_and_held_out_scenes_do_not_mix():
    rng = Random(2)
    assert not any(held_out(draw_scene(rng)) for _ in range(200))
    assert all(held_out(draw_scene(rng, unseen=True)) for _ in range(200))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("objects", [0.0, 1.0])
def test_captions_name_only_what_is_there(language, objects):
    rng = Random(3)
    for _ in range(300):
        scene = draw_scene(rng, objects=objects)
        text = caption(scene, rng, language)
        shown = attributes(scene)
        for name, value in expectations(scene, text).items():
            assert shown[name] == value, (text, scene)


def test_english_object_captions_name_both_colours():
    rng = Random(4)
    for _ in range(300):
        scene = draw_scene(rng, objects=1.0)
        text = caption(scene, rng)
        assert all(word in text for word in (scene.colour, scene.background, scene.shape))


@pytest.mark.parametrize(("height", "width"), [(512, 512), (384, 512), (512, 384)])
def test_the_reader_is_right_about_every_painted_picture(height, width):
    rng, numbers = Random(height), np.random.default_rng(width)
    for _ in range(24):
        scene = draw_scene(rng)
        pixels = paint(scene, height, width, numbers)
        read = read_object if isinstance(scene, ObjectScene) else read_landscape
        seen = read(pixels)
        assert seen == {name: getattr(scene, name) for name in seen}


def test_the_list_of_prompts_is_fixed():
    listed = read_prompts()
    assert len(listed) == 200
    assert listed == draw_prompts(200, 2024)
