"""Tensor and expert parallelism of the sparse feed-forward: partial sums, and one reduce."""

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
        ids, _ = super().route(tokens)
        ids = self._ranks.share(ids)
        scores = (tokens.reshape(-1, tokens.shape[-1]) @ self.gate.weight.T).softmax(-1)
        return ids, scores.gather(1, ids)

    def forward(self, tokens: Tensor) -> Tensor:
        return self._ranks.sum(super().forward(tokens))
