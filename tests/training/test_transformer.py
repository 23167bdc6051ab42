"""The transformer's training: the same steps whole or in two parts, and from an exported model."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from training import settings
from training.export import export, fresh_components, load
from training.language import encoders
from training.latents import MEASURE, kind_of
from training.measure import remeasured
from training.painter import emphasis, paint
from training.scene import ObjectScene, draw_scene
from training.transformer import TransformerRun, TransformerTrainer, averaged, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TransformerRun:
    folder = tmp_path_factory.mktemp("training")
    latents = folder / "latents"
    latents.mkdir()
    channels = settings.LATENT_CHANNELS
    for number in range(6):
        height, width = settings.PICTURE_SIZES[kind_of(number)]
        shape = (4, channels, height // settings.VAE_FACTOR, width // settings.VAE_FACTOR)
        scenes = [draw_scene(Random(10 * number + n), objects=n % 2) for n in range(4)]
        shard = {"scenes": scenes, "latents": torch.randn(shape).half()}
        torch.save(shard, latents / f"shard-{number:05d}.pt")
    torch.save(torch.eye(channels) * 2, latents / MEASURE)
    parts = fresh_components(0)
    torch.save([module.state_dict() for module in encoders(parts)], folder / "language.pt")
    return TransformerRun(
        folder=str(folder / "run"),
        latents=str(latents),
        language=str(folder / "language.pt"),
        steps=2,
        batch=2,
        batch_other=1,
        processes=1,
    )


def weights(trainer: TransformerTrainer) -> list[torch.Tensor]:
    return [*trainer.parameters, *trainer.average.values]


def test_a_resumed_run_goes_on_as_it_would_have(run, tmp_path):
    whole = TransformerTrainer(run, 0)
    whole.step()
    whole.save(tmp_path / "checkpoint.pt")
    whole.step()
    resumed = TransformerTrainer(run, 0)
    resumed.resume(tmp_path / "checkpoint.pt")
    resumed.step()
    assert resumed.done == whole.done == 2
    assert all(map(torch.equal, weights(resumed), weights(whole)))


def test_training_moves_the_transformer_and_not_the_encoders(run):
    trainer = TransformerTrainer(run, 0)
    before = [p.detach().clone() for p in trainer.parameters]
    words = [p.detach().clone() for m in encoders(trainer.parts) for p in m.parameters()]
    for _ in range(2):
        trainer.step()
    assert not all(map(torch.equal, before, trainer.parameters))
    after = [p for m in encoders(trainer.parts) for p in m.parameters()]
    assert all(map(torch.equal, words, after))


def test_noise_levels_cover_their_distribution_in_every_batch(run):
    trainer = TransformerTrainer(run, 0)
    levels = trainer._sigmas(8, torch.Generator().manual_seed(0), kind=0)
    normal = (torch.logit(levels) - run.noise_mean) / run.noise_spread
    eighths = (torch.special.ndtr(normal) * 8).floor().sort().values
    assert eighths.tolist() == list(range(8))


def test_four_times_the_pixels_see_twice_the_odds_of_noise(run):
    trainer = TransformerTrainer(run, 0)
    small, large = (trainer._sigmas(8, torch.Generator().manual_seed(0), kind) for kind in (0, 3))
    torch.testing.assert_close(large / (1 - large), 2 * small / (1 - small))


def test_the_weights_of_errors_depend_on_the_caption_alone(run):
    trainer = TransformerTrainer(run, 0)
    scene = draw_scene(Random(3), objects=1.0)
    told, untold = trainer._weights(0, [scene, scene], [True, False])
    assert untold.unique().tolist() == [1.0]
    assert told.unique().tolist() == [1.0, 1.0 + run.emphasis]


@pytest.mark.parametrize(("height", "width"), settings.PICTURE_SIZES)
def test_the_emphasis_covers_the_shape(height, width):
    rng, numbers = Random(height + width), np.random.default_rng(width)
    for _ in range(20):
        scene = draw_scene(rng, objects=1.0)
        assert isinstance(scene, ObjectScene)
        pixels = paint(scene, height, width, numbers).astype(float)
        shape = np.abs(pixels - pixels[0, 0]).max(-1) > 20
        cells = shape.reshape(height // 64, 64, width // 64, 64).mean((1, 3)) > 0.05
        stressed = emphasis(scene, height // 64, width // 64) > 0
        assert stressed[cells].all()
        assert stressed.mean() < 0.75


@pytest.mark.parametrize(("height", "width"), settings.PICTURE_SIZES)
def test_the_emphasis_covers_the_sun_or_moon(height, width):
    rng = Random(height + width)
    for _ in range(10):
        bare = {"clouds": False, "stars": False, "mountains": "none", "water": "none"}
        scene = replace(draw_scene(rng, objects=0.0), trees=False, **bare)
        with_body, without = (
            paint(replace(scene, body=body), height, width, np.random.default_rng(5)).astype(float)
            for body in (True, False)
        )
        disc = np.abs(with_body - without).max(-1) > 100
        disc[height // 2 :] = False  # the ground varies too
        cells = disc.reshape(height // 64, 64, width // 64, 64).mean((1, 3)) > 0.05
        stressed = emphasis(scene, height // 64, width // 64) > 0
        assert cells.any()
        assert stressed[cells].all()
        assert stressed.mean() < 0.25


def test_an_exported_checkpoint_is_a_model_to_go_on_from(run, tmp_path):
    train(0, run)
    checkpoint = Path(run.folder) / "transformer.pt"
    parts = averaged(checkpoint, fresh_components(0).vae)
    export(parts, tmp_path)
    again = TransformerTrainer(replace(run, language="", start=str(tmp_path)), 0)
    kept = zip(again.parameters, parts.transformer.parameters(), strict=True)
    for live, mean in kept:
        torch.testing.assert_close(live, mean, atol=1e-3, rtol=1e-3)
    mixed_vae = remeasured(fresh_components(0).vae, torch.eye(settings.LATENT_CHANNELS) * 2)
    torch.testing.assert_close(
        load(tmp_path).vae.decoder.conv_in.weight,
        mixed_vae.decoder.conv_in.weight,
        atol=1e-3,
        rtol=1e-3,
    )
