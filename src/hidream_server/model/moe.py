"""The sparse feed-forward of a block, without waiting for the device and without a loop.

Takes the place of diffusers' MOEFeedForwardSwiGLU and computes the same. It may hold some of the
experts, or a part of each: then its output is a part of a sum. Whose the rest is, it does not know.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hidream_server.model.expert_product import ExpertProduct


class RoutedExperts(nn.Module):
    """Experts `first` and on, their matrices stacked: w13 [E, 2 F, D], w2 [E, D, F]."""

    def __init__(
        self, first: int, count: int, width: int, hidden: int, product: ExpertProduct
    ) -> None:
        super().__init__()
        self.first, self.count, self.hidden = first, count, hidden
        self.w13 = nn.Parameter(torch.empty(count, 2 * hidden, width), requires_grad=False)
        self.w2 = nn.Parameter(torch.empty(count, width, hidden), requires_grad=False)
        self._product = product

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
        chosen = ids.shape[1]
        local = ids.flatten() - self.first
        # Assignments to experts held elsewhere are sorted to the end and count nothing.
        held = (local >= 0) & (local < self.count)
        local = torch.where(held, local, self.count)
        order = local.argsort(stable=True)
        # No bincount: on accelerators it makes the host wait.
        experts = torch.arange(self.count, device=ids.device)
        ends = (local <= experts[:, None]).sum(1).to(torch.int32)
        inner = self._product(tokens[order // chosen], self.w13.transpose(1, 2), ends)
        gate, up = inner.chunk(2, dim=-1)
        outer = self._product(F.silu(gate) * up, self.w2.transpose(1, 2), ends)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        weighted = outer[back] * weights.reshape(-1, 1)
        # Not a product with zero: what the grouped product leaves there may be anything.
        weighted = torch.where(held[:, None], weighted, 0)
        return weighted.view(-1, chosen, weighted.shape[-1]).sum(1)


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
        return routed.view_as(tokens) + self.shared_experts(tokens)
