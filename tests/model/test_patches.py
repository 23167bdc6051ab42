"""Tokens, masks and position ids are those of diffusers' own patchify."""

import pytest
import torch
from diffusers import HiDreamImageTransformer2DModel

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.model.patches import Patches


@pytest.fixture(scope="module")
def transformer() -> HiDreamImageTransformer2DModel:
    return HiDreamImageTransformer2DModel.from_pretrained(DEMO_MODEL_PATH / "transformer")


@pytest.mark.parametrize("shape", [(16, 16), (8, 8), (12, 8), (8, 12), (2, 32)])
def test_they_are_what_diffusers_makes_of_latents(transformer, shape):
    patches = Patches(transformer)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        channels = transformer.config.in_channels
        latents = torch.randn((1, channels, *shape), generator=generator)
        tokens, mask, [grid], ids = transformer.patchify(latents)
        assert patches.grid(latents) == tuple(grid.tolist())
        assert torch.equal(patches.tokens(latents), tokens)
        found_mask, found_ids = patches.constants(patches.grid(latents))
        assert torch.equal(found_mask, torch.ones(tokens.shape[:2]) if mask is None else mask)
        assert torch.equal(found_ids, ids)
