"""The blocks' products in fp8 (e4m3), a scale for each row and each column: lossy, to be measured.

Gates, modulations, embeddings, norms and attention scores stay as they are. Weights are copied: the
other ways to run the transformer keep theirs.
"""

from functools import partial

import torch
import torch.nn.functional as F
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor, nn

from hidream_server.model.mixture import grouped
from hidream_server.model.moe import RoutedExperts, SparseFeedForward

_FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_FP8).max
_CAPABILITY = (9, 0)


def obstacle(device: torch.device) -> str | None:
    """Say why a device does not multiply in fp8; a CPU does, slowly."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _CAPABILITY:
        return "this GPU has no products of fp8 with a scale for each row (9.0 has)"
    if device.type not in ("cuda", "cpu"):
        return f"not written for {device.type}"
    return None


def quantise(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values in fp8 and, of each row, what they have to be multiplied by: [..., 1] fp32."""
    scale = values.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
    return (values.float() / scale).clamp(-_LARGEST, _LARGEST).to(_FP8), scale


class EightBitLinear(nn.Module):
    """Takes the place of nn.Linear."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantise(linear.weight)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t().contiguous())
        self.bias = linear.bias

    def forward(self, values: Tensor) -> Tensor:
        rows, scale = quantise(values.reshape(-1, values.shape[-1]))
        product = torch._scaled_mm(
            rows,
            self.weight.t(),
            scale_a=scale,
            scale_b=self.scale,
            out_dtype=values.dtype,
            use_fast_accum=values.is_cuda,
        )
        if self.bias is not None:
            product = product + self.bias
        return product.view(*values.shape[:-1], -1)


class EightBitExperts(nn.Module):
    """Takes the place of RoutedExperts that are all here."""

    def __init__(self, experts: RoutedExperts) -> None:
        super().__init__()
        self._width = experts.w2.shape[1]
        for name in ("w13", "w2"):
            weight, scale = quantise(getattr(experts, name))
            self.register_buffer(name, weight)
            self.register_buffer(f"{name}_scale", scale.squeeze(-1))

    def forward(self, tokens: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        product = partial(_product, self._width, self.w13_scale, self.w2_scale)
        return grouped(product, tokens, ids, weights, self.w13, self.w2)


def _product(
    width: int, into: Tensor, back: Tensor, tokens: Tensor, matrices: Tensor, ends: Tensor
) -> Tensor:
    """Multiply tokens with their experts' fp8 matrices, as `expert_product` says.

    `into` and `back` are the scales of the matrices that take tokens of the model's width, and of
    those that give such.
    """
    scales = into if tokens.shape[-1] == width else back
    rows, scale = quantise(tokens)
    if tokens.device.type == "cpu":
        # Not a kernel of its own there: the same rounding, in wider products.
        wide = (matrices.float() * scales[:, None]).to(tokens.dtype)
        return F.grouped_mm((rows.float() * scale).to(tokens.dtype), wide, offs=ends)
    return torch._scaled_grouped_mm(
        rows,
        matrices,
        scale.squeeze(-1),
        scales,
        offs=ends,
        out_dtype=tokens.dtype,
        use_fast_accum=True,
    )


class EightBitFeedForward(SparseFeedForward):
    """Takes the place of a SparseFeedForward, which reads its shared expert's weights itself."""

    def forward(self, tokens: Tensor) -> Tensor:
        ids, weights = self.route(tokens)
        routed = self.experts(tokens.reshape(-1, tokens.shape[-1]), ids, weights)
        return self.shared_experts(tokens) + routed.view_as(tokens)


def use_eight_bits(transformer: HiDreamImageTransformer2DModel) -> None:
    """Let a transformer with the engine's sparse feed-forward multiply in fp8."""
    for block in (*transformer.double_stream_blocks, *transformer.single_stream_blocks):
        inner = block.block
        whole = inner.ff_i
        parts = [inner.attn1, whole.shared_experts]
        if not inner.attn1.single:
            parts.append(inner.ff_t)
        for part in parts:
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(part, name, EightBitLinear(child))
        experts = EightBitExperts(whole.experts)
        inner.ff_i = EightBitFeedForward(whole.gate, experts, whole.shared_experts)
