"""The weighted sum of each token's experts, once per kind of device.

Every implementation computes the same; the loop is diffusers' own, to the bit.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hidream_server.model.expert_product import ExpertProduct, grouped_mm, npu_grouped_matmul

#: tokens [N, D]; ids [N, k], of which those outside of [0, E) count nothing; weights [N, k];
#: w13 [E, 2 F, D]; w2 [E, D, F] → [N, D].
Mixture = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


#: Multiplies [..., K] by a matrix.
Product = Callable[[Tensor], Tensor]


def swiglu(tokens: Tensor, w1: Product, w2: Product, w3: Product) -> Tensor:
    """One expert: [..., D] → [..., D], with two tensors of the inner width instead of four."""
    gate = F.silu(w1(tokens), inplace=True)
    return w2(gate.mul_(w3(tokens)))


def loop(tokens: Tensor, ids: Tensor, weights: Tensor, w13: Tensor, w2: Tensor) -> Tensor:
    """Go from expert to expert; waits for the device at each, which costs a CPU nothing."""
    matrices = ((*both.chunk(2), back) for both, back in zip(w13, w2, strict=True))
    experts = (
        tuple(partial(F.linear, weight=matrix) for matrix in (w1, back, w3))
        for w1, w3, back in matrices
    )
    return in_turn(tokens, ids, weights, experts)


def in_turn(
    tokens: Tensor,
    ids: Tensor,
    weights: Tensor,
    experts: Iterable[tuple[Product, Product, Product]],
) -> Tensor:
    """Go from expert to expert, each given by what multiplies with its w1, w2 and w3."""
    total = torch.zeros_like(tokens)
    for expert, products in enumerate(experts):
        rows, choices = (ids == expert).nonzero(as_tuple=True)
        outputs = swiglu(tokens.index_select(0, rows), *products)
        total.index_add_(0, rows, outputs.mul_(weights[rows, choices, None]))
    return total


def grouped(
    product: ExpertProduct, tokens: Tensor, ids: Tensor, weights: Tensor, w13: Tensor, w2: Tensor
) -> Tensor:
    """Sort the tokens by expert and multiply all at once; the host waits for nothing."""
    count, chosen = len(w13), ids.shape[1]
    local = ids.flatten()
    # Assignments to experts held elsewhere are sorted to the end.
    held = (local >= 0) & (local < count)
    local = torch.where(held, local, count)
    order = local.argsort(stable=True)
    # No bincount: on accelerators it makes the host wait.
    experts = torch.arange(count, device=ids.device)
    ends = (local <= experts[:, None]).sum(1).to(torch.int32)
    sorted_tokens = tokens.index_select(0, order // chosen)
    gate, up = product(sorted_tokens, w13.transpose(1, 2), ends).chunk(2, dim=-1)
    outputs = product(F.silu(gate).mul_(up), w2.transpose(1, 2), ends)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    weighted = outputs.index_select(0, back) * weights.reshape(-1, 1)
    # Not a product with zero: what the grouped product leaves there may be anything.
    weighted = torch.where(held[:, None], weighted, 0)
    return weighted.view(-1, chosen, weighted.shape[-1]).sum(1)


#: By the name that a kind of device gives.
MIXTURES: dict[str, Mixture] = {
    "loop": loop,
    "grouped_mm": partial(grouped, grouped_mm),
    "npu_grouped_matmul": partial(grouped, npu_grouped_matmul),
}
