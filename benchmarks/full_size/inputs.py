"""What all ways are given: noise, and random embeddings of a prompt or two."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.full_size.sizes import Size
from hidream_server.model_directory.description import TEXT_TOKENS
from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.worker.device import RankDevice

GUIDANCE = 5.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """Embeddings of one row or, guided, two, and noise; on the device but for the noise."""

    #: [1, C, H, W], fp32 on the CPU, of numbers that 16 bits can hold.
    latents: Tensor
    #: As the encoders give them: t5 [R, T, D5], llama [layers, R, T, Dl], pooled [R, P].
    text: Conditioning

    @property
    def rows(self) -> int:
        return self.text.rows

    @property
    def guidance(self) -> float:
        return GUIDANCE if self.rows == 2 else 0.0


def make_inputs(size: Size, rows: int, device: RankDevice) -> Inputs:
    network = size.network
    t5_width, llama_width = network.caption_channels
    generator = torch.Generator().manual_seed(rows)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device.dtype)

    latents = noise(1, network.in_channels, size.latent_side, size.latent_side).float()
    text = Conditioning(
        pooled=noise(rows, network.text_emb_dim).to(device.torch_device),
        t5=noise(rows, TEXT_TOKENS, t5_width).to(device.torch_device),
        llama=noise(max(network.llama_layers) + 1, rows, TEXT_TOKENS, llama_width).to(
            device.torch_device
        ),
    )
    return Inputs(latents, text)
