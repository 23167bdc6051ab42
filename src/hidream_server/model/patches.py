"""Latents as tokens: what diffusers' patchify makes of them, in one pass over what changes.

Mask and position ids are the same for all latents of a grid: diffusers is asked for them once.
"""

import torch
import torch.nn.functional as F
from cachetools import LRUCache
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor

from hidream_server.model.positions import Grid

#: Of one grid they take some 100 kB at the published size.
_MOST_GRIDS = 64


class Patches:
    """How a transformer cuts latents; it must be on its device."""

    def __init__(self, transformer: HiDreamImageTransformer2DModel) -> None:
        self._transformer = transformer
        self._size: int = transformer.config.patch_size
        # Diffusers looks at every parameter to tell.
        self._device, self._dtype = transformer.device, transformer.dtype
        self._constants: LRUCache[Grid, tuple[Tensor, Tensor]] = LRUCache(_MOST_GRIDS)

    def grid(self, latents: Tensor) -> Grid:
        return latents.shape[2] // self._size, latents.shape[3] // self._size

    def tokens(self, latents: Tensor) -> Tensor:
        """[1, C, H, W] → [1, S, patch² · C], where they are; padded unless they are square."""
        down, across = self.grid(latents)
        patches = latents.unflatten(3, (across, -1)).unflatten(2, (down, -1))
        tokens = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        if down == across:
            return tokens
        return F.pad(tokens, (0, 0, 0, self._transformer.max_seq - down * across))

    def constants(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return mask [1, S] and position ids [1, S, 3], on the device."""
        if grid not in self._constants:
            channels, size = self._transformer.config.in_channels, self._size
            latents = torch.zeros(1, channels, grid[0] * size, grid[1] * size)
            tokens, mask, _, ids = self._transformer.patchify(latents)
            mask = torch.ones(tokens.shape[:2]) if mask is None else mask
            self._constants[grid] = mask.to(self._device, self._dtype), ids.to(self._device)
        return self._constants[grid]
