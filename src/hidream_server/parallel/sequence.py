"""Sequence parallelism: each rank has some of the tokens, attention needs all of them.

Everything but attention works token by token, so only `attend` is exchanged. Heads are dealt out
for the time of the attention where their number allows it (Ulysses,
https://arxiv.org/abs/2309.14509); otherwise every rank gathers all keys and values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hidream_server.parallel.attention import attend
from hidream_server.parallel.ranks import Ranks


class SequenceParallelAttention:
    """Attention over the tokens of all ranks; `lengths` says how many each of them has."""

    def __init__(self, ranks: Ranks, heads: int) -> None:
        self._ranks = ranks
        self._compute = self._ulysses if heads % ranks.size == 0 else self._gather_keys
        #: Tokens per rank, text included; set before each forward pass. None: each rank has all.
        self.lengths: list[int] = []

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self._compute(query, key, value) if self.lengths else attend(query, key, value)

    def _ulysses(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Give away all heads but some, receive the other ranks' tokens for those."""
        ranks = self._ranks
        mine = torch.stack([query, key, value])
        three, batch, own, heads, width = mine.shape
        share = heads // ranks.size
        parts = list(mine.split(share, dim=3))
        shapes = [(three, batch, length, share, width) for length in self.lengths]
        everything = torch.cat(ranks.all_to_all(parts, shapes), 2)
        attended = attend(*everything.unbind())
        back = list(attended.split(self.lengths, dim=1))
        returned = ranks.all_to_all(back, [(batch, own, share, width)] * ranks.size)
        return torch.cat(returned, 2)

    def _gather_keys(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Gather all keys and values; queries stay where they are."""
        mine = torch.stack([key, value])
        spare = max(self.lengths) - mine.shape[2]
        if spare:
            mine = F.pad(mine, (0, 0, 0, 0, 0, spare))
        gathered = self._ranks.all_gather(mine)
        pieces = [piece[:, :, :n] for piece, n in zip(gathered, self.lengths, strict=True)]
        keys, values = torch.cat(pieces, 2).unbind()
        return attend(query, keys, values)
