"""Runs the transformer on tokens that each may stand for many equal ones.

Padding, of text and of pictures that are not square, is computed once and counted in attention.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor, nn

from .text import TextStates


class CountedAttention:
    """The attention of one block, with a bias per key: the logarithm of its count."""

    def __init__(self) -> None:
        self.bias: Tensor | None = None

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        hidden_states_masks: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        image_rotary_emb: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        q, k, v = self._project(attn, hidden_states, "")
        if hidden_states_masks is not None:
            k = k * hidden_states_masks[..., None, None].to(k.dtype)
        images = k.shape[1]
        if encoder_hidden_states is not None:
            text = self._project(attn, encoder_hidden_states, "_t")
            q, k, v = (torch.cat(pair, 1) for pair in zip((q, k, v), text, strict=True))
        q, k = _rotate(q, image_rotary_emb), _rotate(k, image_rotary_emb)
        # In single precision always: in half, the CPU kernel is slow at going backwards.
        heads = (part.float().transpose(1, 2) for part in (q, k, v))
        with torch.autocast("cpu", enabled=False):
            mixed = F.scaled_dot_product_attention(*heads, self.bias)
        mixed = mixed.transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return attn.to_out(mixed)
        return attn.to_out(mixed[:, :images]), attn.to_out_t(mixed[:, images:])

    @staticmethod
    def _project(attn: nn.Module, states: Tensor, suffix: str) -> list[Tensor]:
        query = getattr(attn, f"q_rms_norm{suffix}")(getattr(attn, f"to_q{suffix}")(states))
        key = getattr(attn, f"k_rms_norm{suffix}")(getattr(attn, f"to_k{suffix}")(states))
        value = getattr(attn, f"to_v{suffix}")(states)
        return [part.unflatten(-1, (attn.heads, -1)) for part in (query, key, value)]


def _rotate(states: Tensor, rotation: Tensor) -> Tensor:
    pairs = states.float().unflatten(-1, (-1, 1, 2))
    turned = rotation[..., 0] * pairs[..., 0] + rotation[..., 1] * pairs[..., 1]
    return turned.flatten(-2).to(states.dtype)


def patches(latents: Tensor, size: int) -> Tensor:
    """Cut [B, C, H, W] into tokens [B, S, size * size * C], as the transformer does."""
    grid = latents.unflatten(-1, (-1, size)).unflatten(-3, (-1, size))
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


class CountedTransformer:
    """Calls a transformer's own forward with counted tokens in place of repeated ones."""

    def __init__(self, transformer: HiDreamImageTransformer2DModel) -> None:
        self.transformer = transformer
        self._processors = []
        self.balance: list[Tensor] = []
        for block in (*transformer.double_stream_blocks, *transformer.single_stream_blocks):
            processor = CountedAttention()
            block.block.attn1.processor = processor
            self._processors.append(processor)
            # The gate computes its balance loss in training mode, and the block drops it.
            block.block.ff_i.gate.register_forward_hook(self._keep_balance)

    def _keep_balance(self, _gate, _inputs, outputs) -> None:
        if outputs[2] is not None:
            self.balance.append(outputs[2])

    def __call__(self, latents: Tensor, timesteps: Tensor, text: TextStates) -> Tensor:
        """Return the output as tokens [B, S, F], without padding."""
        self.balance = []
        size = self.transformer.config.patch_size
        batch, _, height, width = latents.shape
        rows, columns = height // size, width // size
        tokens = patches(latents, size)
        absent = 0 if rows == columns else self.transformer.max_seq - rows * columns
        image_bias = torch.zeros(rows * columns + (absent > 0))
        if absent:
            tokens = F.pad(tokens, (0, 0, 0, 1))
            image_bias[-1] = math.log(absent)
        bias = torch.cat([image_bias, text.key_bias()])
        for processor in self._processors:
            processor.bias = bias[None, None, None]
        mask = torch.ones(batch, tokens.shape[1])
        mask[:, rows * columns :] = 0
        output = self.transformer(
            tokens,
            timesteps,
            text.t5,
            text.llama,
            text.pooled,
            img_ids=_positions(rows, columns, tokens.shape[1]).expand(batch, -1, -1),
            img_sizes=[(rows, columns)] * batch,
            hidden_states_masks=mask,
        ).sample
        if output.ndim == 4 and self.transformer.training:
            return output.permute(0, 2, 3, 1).flatten(2)[:, : rows * columns]
        return patches(output, size)

    def picture(self, latents: Tensor, timesteps: Tensor, text: TextStates) -> Tensor:
        """Return the output in the shape of `latents`."""
        size = self.transformer.config.patch_size
        rows, columns = latents.shape[-2] // size, latents.shape[-1] // size
        tokens = self(latents, timesteps, text)
        grid = tokens.unflatten(2, (size, size, -1)).unflatten(1, (rows, columns))
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(latents.shape)


def _positions(rows: int, columns: int, tokens: int) -> Tensor:
    ids = torch.zeros(tokens, 3)
    ids[: rows * columns, 1] = torch.arange(rows).repeat_interleave(columns).float()
    ids[: rows * columns, 2] = torch.arange(columns).repeat(rows).float()
    return ids[None]
