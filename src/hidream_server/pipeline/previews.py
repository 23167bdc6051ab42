"""Unfinished latents → a small picture, by a linear map from latent channels to colours.

The map is fitted once for an autoencoder, to what it makes of smooth fields of colour; it costs
nothing to apply, and knows nothing of the network.
"""

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

#: For each latent channel, and last for a constant, its share of red, green and blue in [0, 1].
PreviewMap = list[list[float]]

_FIELDS, _SIDE = 8, 256
#: Colours change over so many pixels: about a latent's view of the picture.
_GRAIN = 32


@torch.inference_mode()
def fit(vae: AutoencoderKL) -> PreviewMap:
    """Fit the map by least squares over the latents of pictures that the autoencoder is shown."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((_FIELDS, 3, _SIDE // _GRAIN, _SIDE // _GRAIN), generator=generator)
    pictures = torch.nn.functional.interpolate(coarse, (_SIDE, _SIDE), mode="nearest")
    latents = vae.encode((2 * pictures - 1).to(vae.device, vae.dtype)).latent_dist.mode()
    scaled = (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    colours = torch.nn.functional.interpolate(pictures, scaled.shape[-2:], mode="area")
    solution = torch.linalg.lstsq(_with_constant(scaled.float().cpu()), _pixels(colours)).solution
    return [[float(share) for share in channel] for channel in solution]


def preview(latents: Tensor, shares: PreviewMap) -> NDArray[np.uint8]:
    """Return [1, C, H, W] latents as a picture [H, W, 3] in uint8, one pixel for each."""
    colours = _with_constant(latents.cpu()) @ torch.tensor(shares)
    height, width = latents.shape[-2:]
    return (colours.view(height, width, 3).clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _with_constant(latents: Tensor) -> Tensor:
    channels = _pixels(latents)
    return torch.cat([channels, torch.ones(len(channels), 1)], 1)


def _pixels(maps: Tensor) -> Tensor:
    """[N, C, H, W] → [N·H·W, C]."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
