"""The text encoders' states as the blocks read them: projected once a prompt, not in each step."""

import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor, nn


class CaptionProjections(nn.Module):
    """A projection for each block's Llama layer, and last T5's; `layers` says which each reads."""

    def __init__(self, projections: nn.ModuleList, layers: list[int]) -> None:
        super().__init__()
        self.projections = projections
        self.layers = layers

    def forward(self, t5: Tensor, llama: Tensor) -> tuple[Tensor, Tensor]:
        """t5 [R, T, D5], llama [layers, R, T, Dl] → [R, T, D] and [blocks, R, T, D]."""
        *for_blocks, for_t5 = self.projections
        pairs = zip(for_blocks, self.layers, strict=True)
        return for_t5(t5), torch.stack([project(llama[layer]) for project, layer in pairs])


def take_captions(transformer: HiDreamImageTransformer2DModel) -> CaptionProjections:
    """Take the projections out of a transformer, whose forward is then given what they return."""
    taken = CaptionProjections(transformer.caption_projection, transformer.config.llama_layers)
    transformer.caption_projection = nn.ModuleList(nn.Identity() for _ in taken.projections)
    # One layer for each block, in the blocks' order.
    transformer.register_to_config(llama_layers=list(range(len(taken.layers))))
    return taken
