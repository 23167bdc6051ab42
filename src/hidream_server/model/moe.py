"""The sparse feed-forward of a block, as each kind of device computes it best.

Takes the place of diffusers' MOEFeedForwardSwiGLU and computes the same. It may hold some of the
experts, or a part of each: then its output is a part of a sum. Whose the rest is, it does not know.
"""

import torch
from torch import Tensor, nn

from hidream_server.model.mixture import Mixture, swiglu


class RoutedExperts(nn.Module):
    """Experts `first` and on, their matrices stacked: w13 [E, 2 F, D], w2 [E, D, F]."""

    def __init__(self, first: int, count: int, width: int, hidden: int, mixture: Mixture) -> None:
        super().__init__()
        self.first, self.count, self.hidden = first, count, hidden
        self.w13 = nn.Parameter(torch.empty(count, 2 * hidden, width), requires_grad=False)
        self.w2 = nn.Parameter(torch.empty(count, width, hidden), requires_grad=False)
        self._mixture = mixture

    def matrix(self, expert: int, name: str) -> Tensor:
        """Return where an expert's w1, w2 or w3 is kept, to be written."""
        index = expert - self.first
        if name == "w2":
            return self.w2.data[index]
        half = slice(0, self.hidden) if name == "w1" else slice(self.hidden, None)
        return self.w13.data[index, half]

    def forward(self, tokens: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of each token's experts that are held here.

        tokens [N, D], ids and weights [N, k] → [N, D].
        """
        return self._mixture(tokens, ids - self.first, weights, self.w13, self.w2)


class SparseFeedForward(nn.Module):
    """Routed experts and the shared one: [B, S, D] → [B, S, D]."""

    def __init__(self, gate: nn.Module, experts: RoutedExperts, shared_experts: nn.Module) -> None:
        super().__init__()
        self.gate = gate
        self.experts = experts
        self.shared_experts = shared_experts

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return expert ids and their weights, each [N, k]."""
        ids, weights, _ = self.gate(tokens)
        return ids, weights

    def forward(self, tokens: Tensor) -> Tensor:
        ids, weights = self.route(tokens)
        routed = self.experts(tokens.reshape(-1, tokens.shape[-1]), ids, weights)
        shared = self.shared_experts
        always = swiglu(tokens, shared.w1, shared.w2, shared.w3)
        return always.add_(routed.view_as(tokens))
