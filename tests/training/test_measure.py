"""Latents mixed by what the decoder makes of them are the same pictures in other numbers."""

import pytest
import torch
from diffusers import AutoencoderKL

from training import settings
from training.measure import mixed, mixing, remeasured, sensitivity


@pytest.fixture
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(**settings.AUTOENCODER).eval()


@torch.no_grad()
def test_a_channel_that_moves_the_picture_twice_as_much_is_as_much_more_sensitive(vae):
    latents = torch.randn(2, settings.LATENT_CHANNELS, 2, 2)
    before = sensitivity(vae, latents)
    vae.decoder.conv_in.weight[:, 3] *= 2
    latents[:, 3] /= 2
    after = sensitivity(vae, latents)
    assert after[3, 3] > 2.5 * before[3, 3]


def test_mixing_evens_out_half_of_the_difference():
    sensed = torch.diag(torch.tensor([16.0, 1.0]))
    matrix = mixing(sensed, torch.randn(8, 2, 4, 4))
    assert matrix[0, 0] / matrix[1, 1] == pytest.approx(2.0)
    assert matrix[0, 1].abs() < 1e-6


def test_mixed_latents_have_mean_square_one():
    latents = torch.randn(8, 2, 4, 4) * 3
    matrix = mixing(torch.diag(torch.tensor([16.0, 1.0])), latents)
    assert mixed(latents, matrix).square().mean() == pytest.approx(1.0, abs=1e-4)


@torch.no_grad()
def test_a_remeasured_autoencoder_paints_the_same_picture(vae):
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    latents = vae.encode(picture).latent_dist.mean
    decoded = vae.decode(latents).sample
    root = torch.randn(settings.LATENT_CHANNELS, settings.LATENT_CHANNELS)
    matrix = root @ root.T / settings.LATENT_CHANNELS + torch.eye(settings.LATENT_CHANNELS)
    remeasured(vae, matrix)
    again = vae.encode(picture).latent_dist.mean
    torch.testing.assert_close(again, mixed(latents, matrix), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(vae.decode(again).sample, decoded, atol=1e-3, rtol=1e-3)
