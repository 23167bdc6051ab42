"""Tensor and expert parallelism of the sparse feed-forward: partial sums, and one reduce."""

import torch
from torch import Tensor, nn

from hidream_server.model.moe import RoutedExperts, SparseFeedForward
from hidream_server.parallel.ranks import Ranks


class ParallelSparseFeedForward(SparseFeedForward):
    """A part of a sparse feed-forward on each of `ranks`, which all see the same tokens."""

    def __init__(
        self, gate: nn.Module, experts: RoutedExperts, shared_experts: nn.Module, ranks: Ranks
    ) -> None:
        super().__init__(gate, experts, shared_experts)
        self._ranks = ranks

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the first rank chose: near a tie, rounding may decide differently.

        Ranks that disagreed would add up parts of different experts.
        """
        ids, weights = super().route(tokens)
        # Numbers of experts are exact in any dtype, and one message is quicker than two.
        chosen = self._ranks.broadcast(torch.cat([ids.to(weights.dtype), weights], 1))
        ids, weights = chosen.chunk(2, 1)
        return ids.long(), weights

    def forward(self, tokens: Tensor) -> Tensor:
        return self._ranks.all_reduce(super().forward(tokens))
