"""The preview map shows, roughly, what the autoencoder would."""

import numpy as np
import torch
from diffusers import AutoencoderKL

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.pipeline.autoencoder import decode
from hidream_server.pipeline.previews import fit, preview


def test_a_preview_has_the_colours_of_the_picture():
    vae = AutoencoderKL.from_pretrained(DEMO_MODEL_PATH / "vae", torch_dtype=torch.float32)
    left, right = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.8])
    picture = torch.empty(1, 3, 256, 256)
    picture[..., :128] = left.view(1, 3, 1, 1)
    picture[..., 128:] = right.view(1, 3, 1, 1)
    with torch.inference_mode():
        latents = vae.encode(2 * picture - 1).latent_dist.mode()
    shown = preview(latents, fit(vae))
    assert shown.shape == (8, 8, 3)
    decoded = decode(vae, latents).reshape(8, 32, 8, 32, 3).mean(axis=(1, 3))
    # Next to the edge the autoencoder knows more than a single latent says.
    away = [0, 1, 2, 5, 6, 7]
    assert np.abs(shown[:, away].astype(float) - decoded[:, away]).mean() < 12


def test_values_out_of_range_are_cut_off():
    shares = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert preview(torch.tensor([[[[2.0, -1.0]]]]), shares).tolist() == [
        [[255, 0, 255], [0, 0, 255]]
    ]
