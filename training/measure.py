"""Measures latents by what the decoder makes of them.

Latent channels of equal spread differ tenfold in how much of the picture they move: colours much,
details little. Mixed half-way towards equal effect, what is seen most weighs more in a squared
error of latents and stands out longest from the noise, and details still count.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

_STEP = 0.3


@torch.no_grad()
def sensitivity(vae: AutoencoderKL, latents: Tensor, seed: int = 0) -> Tensor:
    """Return [C, C]: the mean product of the pixel changes that each two channels cause."""
    noise = torch.Generator().manual_seed(seed)
    channels = latents.shape[1]
    total = torch.zeros(channels, channels)
    for latent in latents:
        pattern = torch.randn(latent.shape[-2:], generator=noise) * _STEP
        base = vae.decode(latent[None]).sample
        shifts = pattern * torch.eye(channels)[:, :, None, None]
        moved = torch.cat([vae.decode((latent + shift)[None]).sample for shift in shifts])
        change = (moved - base).flatten(1) / _STEP
        total += change @ change.T / change.shape[1]
    return total / len(latents)


def mixing(sensed: Tensor, latents: Tensor) -> Tensor:
    """Return the symmetric [C, C] that makes of latents [B, C, H, W] mixed ones, mean square one.

    The square root of the sensitivity would give every direction the same effect; its fourth root
    goes half of the way.
    """
    values, vectors = torch.linalg.eigh(sensed)
    root = vectors @ values.clamp_min(1e-8).pow(0.25).diag() @ vectors.T
    return root / mixed(latents, root).square().mean().sqrt()


def mixed(latents: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("dc,bchw->bdhw", matrix, latents)


@torch.no_grad()
def remeasured(vae: AutoencoderKL, matrix: Tensor) -> AutoencoderKL:
    """Let `vae` speak mixed latents, in place: it encodes to them and decodes from them."""
    channels = len(matrix)
    out, enter = vae.encoder.conv_out, vae.decoder.conv_in
    out.weight[:channels] = torch.einsum("dc,cihw->dihw", matrix, out.weight[:channels])
    out.bias[:channels] = matrix @ out.bias[:channels]
    enter.weight.copy_(torch.einsum("ochw,cd->odhw", enter.weight, torch.linalg.inv(matrix)))
    return vae
