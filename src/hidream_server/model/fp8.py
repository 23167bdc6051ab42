"""The transformer once more, with blocks that multiply in fp8 (e4m3): lossy.

Each row of what is multiplied, and each column, has a scale of its own. Gates, modulations,
embeddings, norms and attention scores are shared with the exact one.
"""

import copy
from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor, nn

from hidream_server.model.mixture import Product, grouped, in_turn
from hidream_server.model.moe import RoutedExperts, SparseFeedForward

_FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_FP8).max

M = TypeVar("M", bound=nn.Module)


def quantise(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values in fp8 and, of each row, what they have to be multiplied by: [..., 1] fp32."""
    scale = values.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
    # In fp32, of which there is one copy only.
    return (values / scale).clamp_(-_LARGEST, _LARGEST).to(_FP8), scale


def multiply(values: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return values [..., K] times the transpose of a weight [N, K] in fp8 with scales [N, 1]."""
    rows, row_scale = quantise(values.reshape(-1, values.shape[-1]))
    product = torch._scaled_mm(
        rows,
        weight.t(),
        scale_a=row_scale,
        scale_b=scale.t(),
        out_dtype=values.dtype,
        use_fast_accum=True,
    )
    return product.view(*values.shape[:-1], -1)


def multiply_wide(values: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Return the same, by a product in the values' dtype; compiled for any number of rows."""
    rows, row_scale = quantise(values)
    wide = [
        (small.float() * scales).to(values.dtype)
        for small, scales in ((rows, row_scale), (weight, scale))
    ]
    return F.linear(*wide)


class Fp8Linear(nn.Module):
    """Takes the place of nn.Linear."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantise(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, values: Tensor) -> Tensor:
        product = self.product(values)
        return product if self.bias is None else product + self.bias

    def product(self, values: Tensor) -> Tensor:
        """Return what comes before the bias."""
        return multiply(values, self.weight, self.scale)


class Fp8Experts(nn.Module):
    """Takes the place of RoutedExperts."""

    def __init__(self, experts: RoutedExperts) -> None:
        super().__init__()
        self._first = experts.first
        for name in ("w13", "w2"):
            weight, scale = quantise(getattr(experts, name).detach())
            self.register_buffer(name, weight)
            self.register_buffer(f"{name}_scale", scale)

    def forward(self, tokens: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        here = ids - self._first
        if tokens.device.type == "cpu":
            # It has no grouped product in fp8.
            return in_turn(tokens, here, weights, self._experts())
        return grouped(self._grouped_product, tokens, here, weights, self.w13, self.w2)

    def _experts(self) -> Iterator[tuple[Product, Product, Product]]:
        for both, both_scale, w2, w2_scale in zip(
            self.w13, self.w13_scale, self.w2, self.w2_scale, strict=True
        ):
            (w1, w3), (w1_scale, w3_scale) = both.chunk(2), both_scale.chunk(2)
            parts = ((w1, w1_scale), (w2, w2_scale), (w3, w3_scale))
            one, two, three = (partial(multiply_wide, weight=w, scale=scale) for w, scale in parts)
            yield one, two, three

    def _grouped_product(self, tokens: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
        """Multiply tokens with their experts' fp8 matrices, as `expert_product` says."""
        scales = self.w13_scale if matrices.mT.shape == self.w13.shape else self.w2_scale
        rows, scale = quantise(tokens)
        return torch._scaled_grouped_mm(
            rows,
            matrices,
            scale.squeeze(-1),
            scales.squeeze(-1),
            offs=ends,
            out_dtype=tokens.dtype,
            use_fast_accum=True,
        )


def in_fp8(transformer: HiDreamImageTransformer2DModel) -> HiDreamImageTransformer2DModel:
    """Return one that multiplies in fp8, and has all else in common with this one.

    This one must have the engine's sparse feed-forward, and its weights.
    """
    copied = _with_own_children(transformer)
    for name in ("double_stream_blocks", "single_stream_blocks"):
        setattr(copied, name, nn.ModuleList(map(_block_in_fp8, getattr(transformer, name))))
    return copied


def _with_own_children(module: M) -> M:
    """Return a shallow copy whose children can be replaced without the original's being so."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    return copied


def _block_in_fp8(wrapper: nn.Module) -> nn.Module:
    copied, inner = _with_own_children(wrapper), _with_own_children(wrapper.block)
    copied.block = inner
    inner.attn1 = _linears_in_fp8(inner.attn1)
    if not inner.attn1.single:
        inner.ff_t = _linears_in_fp8(inner.ff_t)
    inner.ff_i = _feed_forward_in_fp8(inner.ff_i)
    return copied


def _feed_forward_in_fp8(sparse: SparseFeedForward) -> SparseFeedForward:
    copied = _with_own_children(sparse)
    copied.experts = Fp8Experts(sparse.experts)
    copied.shared_experts = _linears_in_fp8(sparse.shared_experts)
    return copied


def _linears_in_fp8(module: M) -> M:
    copied = _with_own_children(module)
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(copied, name, Fp8Linear(child))
    return copied
