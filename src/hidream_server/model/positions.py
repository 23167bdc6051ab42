"""Rotary tables, made once for a grid of tokens instead of in each step."""

import torch
from cachetools import LRUCache
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor, nn

#: Patches down and across.
Grid = tuple[int, int]

#: One is 5 MB at the published size.
_MOST_TABLES = 8


class RememberedPositions(nn.Module):
    """Takes the place of diffusers' HiDreamImageEmbedND, and asks it for what is new."""

    def __init__(self, embed: nn.Module) -> None:
        super().__init__()
        self._embed = embed
        self._tables: LRUCache[tuple[Grid, int], Tensor] = LRUCache(_MOST_TABLES)
        #: Of each row; set before each forward pass. The ids are not read to know them: that would
        #: make the host wait for the device.
        self.grids: list[Grid] = []

    def forward(self, ids: Tensor) -> Tensor:
        """ids [R, S, 3] → [R, S, 1, rotated pairs, 2, 2]; one row if all are of one grid."""
        if len(set(self.grids)) == 1:
            return self._table(self.grids[0], ids[:1])
        rows = zip(self.grids, ids.split(1), strict=True)
        return torch.cat([self._table(grid, row) for grid, row in rows])

    def _table(self, grid: Grid, ids: Tensor) -> Tensor:
        key = (grid, ids.shape[1])
        if key not in self._tables:
            self._tables[key] = self._embed(ids)
        return self._tables[key]


def remember_positions(transformer: HiDreamImageTransformer2DModel) -> RememberedPositions:
    """Put it into a transformer; return it, to be told the grids."""
    transformer.pe_embedder = RememberedPositions(transformer.pe_embedder)
    return transformer.pe_embedder
