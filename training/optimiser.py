"""Muon for weight matrices, AdamW for the rest, and a running average of the weights.

Knows parameters only, neither models nor losses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonal(batch_BMN: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of each matrix towards one (Newton-Schulz, quintic)."""
    x = batch_BMN / (batch_BMN.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    flipped = x.shape[-2] > x.shape[-1]
    x = x.mT if flipped else x
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if flipped else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal; equal shapes are worked on together."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[len(weight), weight[0].numel()].append(weight)
            for (rows, columns), weights in by_shape.items():
                self._step_together(weights, rows, columns, group["lr"], group["momentum"])

    def _step_together(self, weights, rows: int, columns: int, lr: float, momentum: float) -> None:
        updates = []
        for weight in weights:
            moving = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            moving.lerp_(weight.grad, 1 - momentum)
            updates.append(weight.grad.lerp(moving, momentum).reshape(rows, columns))
        # Tall and wide matrices alike change by about `lr` per entry's root mean square.
        scale = lr * max(1.0, rows / columns) ** 0.5
        for weight, update in zip(weights, orthogonal(torch.stack(updates)), strict=True):
            weight.add_(update.reshape(weight.shape), alpha=-scale)


class Average:
    """An exponential moving average of parameters, faster while young."""

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self.live = list(parameters)
        self.decay = decay
        self.steps = 0
        self.values = [value.detach().clone() for value in self.live]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self.values, [v.detach() for v in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the live values; call it again to change them back."""
        for live, mean in zip(self.live, self.values, strict=True):
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)

    def state_dict(self) -> dict:
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        for mean, saved in zip(self.values, state["values"], strict=True):
            mean.copy_(saved)
