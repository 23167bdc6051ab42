"""Latents → pixels."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.image_processor import VaeImageProcessor
from numpy.typing import NDArray
from torch import Tensor

_processor = VaeImageProcessor()


@torch.inference_mode()
def decode(vae: AutoencoderKL, latents: Tensor) -> NDArray[np.uint8]:
    """Return the picture of one image's latents [1, C, H, W] as [height, width, 3] in uint8."""
    latents = latents.to(vae.device, vae.dtype)
    scaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    pixels = vae.decode(scaled, return_dict=False)[0].float()
    return (_processor.postprocess(pixels, output_type="np")[0] * 255).round().astype(np.uint8)


def decode_in_tiles(vae: AutoencoderKL, latents: Tensor) -> NDArray[np.uint8]:
    """Do the same in four pieces and a little over, with a fraction of the memory.

    Where tiles meet they are blended; the picture differs a little there.
    """
    tile = max(latents.shape[-2:]) // 2
    # Those it comes with are as large as the largest picture.
    vae.tile_latent_min_size = tile
    vae.tile_sample_min_size = tile * 2 ** (len(vae.config.block_out_channels) - 1)
    vae.enable_tiling()
    try:
        return decode(vae, latents)
    finally:
        vae.disable_tiling()
