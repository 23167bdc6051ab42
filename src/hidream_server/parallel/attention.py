"""Attention whose heads and whose tokens may be spread over ranks.

Takes the place of diffusers' HiDreamAttnProcessor and computes the same: heads over tensor-parallel
ranks, tokens over sequence-parallel ones.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_hidream_image import HiDreamAttention, apply_rope
from torch import Tensor, nn

from hidream_server.model.fp8 import Fp8Linear
from hidream_server.parallel.ranks import Ranks

#: query, key, value [B, S, H, d] → [B, S, H, d].
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of all tokens on one rank."""
    heads_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return F.scaled_dot_product_attention(*heads_first).transpose(1, 2)


class ParallelAttentionProcessor:
    """Called by diffusers' HiDreamAttention, whose weights are this rank's part."""

    def __init__(self, tensor_ranks: Ranks, attend: Attend) -> None:
        self._ranks = tensor_ranks
        self._attend = attend

    def __call__(
        self,
        attn: HiDreamAttention,
        hidden_states: Tensor,
        hidden_states_masks: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        image_rotary_emb: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        streams = [hidden_states] if attn.single else [hidden_states, encoder_hidden_states]
        suffixes = ["", "_t"][: len(streams)]
        queries, keys, values = (
            [getattr(attn, f"to_{name}{s}")(x) for x, s in zip(streams, suffixes, strict=True)]
            for name in "qkv"
        )
        norms = [getattr(attn, f"{name}_rms_norm{s}") for name in "qk" for s in suffixes]
        normed = self._normalise([*queries, *keys], norms)
        query, key, value = (
            torch.cat(parts, 1).unflatten(-1, (attn.heads, -1))
            for parts in (normed[: len(streams)], normed[len(streams) :], values)
        )
        if hidden_states_masks is not None:
            image = hidden_states_masks.shape[1]
            mask = hidden_states_masks.view(*hidden_states_masks.shape, 1, 1)
            key = torch.cat([key[:, :image] * mask, key[:, image:]], 1)
        query, key = _rotate(query, key, image_rotary_emb)
        attended = self._attend(query, key, value).flatten(2).to(query.dtype)
        return self._output(attn, attended, streams, suffixes)

    def _normalise(self, parts: list[Tensor], norms: list[nn.RMSNorm]) -> list[Tensor]:
        """Apply RMSNorm over the width of all ranks together, with one reduce for all parts."""
        squares = [part.float().square().sum(-1, keepdim=True) for part in parts]
        sums = self._ranks.all_reduce(torch.cat(squares, 1)).split(
            [part.shape[1] for part in parts], 1
        )
        width = parts[0].shape[-1] * self._ranks.size
        return [
            (part.float() * torch.rsqrt(total / width + norm.eps)).to(part.dtype) * norm.weight
            for part, total, norm in zip(parts, sums, norms, strict=True)
        ]

    def _output(
        self, attn: HiDreamAttention, attended: Tensor, streams: list[Tensor], suffixes: list[str]
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Project each stream back; every rank has a part of the sum, the bias comes once."""
        pieces = attended.split([stream.shape[1] for stream in streams], 1)
        linears = [getattr(attn, f"to_out{suffix}") for suffix in suffixes]
        partial = [_product(linear, p) for p, linear in zip(pieces, linears, strict=True)]
        total = self._ranks.all_reduce(torch.cat(partial, 1))
        outputs = total.split([piece.shape[1] for piece in pieces], 1)
        biased = [out + linear.bias for out, linear in zip(outputs, linears, strict=True)]
        return biased[0] if attn.single else (biased[0], biased[1])


def _product(linear: nn.Linear | Fp8Linear, values: Tensor) -> Tensor:
    """Return what comes before the bias."""
    exact = isinstance(linear, nn.Linear)
    return F.linear(values, linear.weight) if exact else linear.product(values)


def _rotate(query: Tensor, key: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate by position; a model may rotate only the first half of each head."""
    if query.shape[-1] == rotary.shape[-3] * 2:
        return apply_rope(query, key, rotary)
    (query, query_rest), (key, key_rest) = query.chunk(2, -1), key.chunk(2, -1)
    query, key = apply_rope(query, key, rotary)
    return torch.cat([query, query_rest], -1), torch.cat([key, key_rest], -1)
