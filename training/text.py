"""Turns captions into what the transformer reads: in full as served, or compactly for training.

Served, every caption is padded to 128 tokens, and the transformer sees the padding. With these
encoders all padding tokens of a caption are soon the same: T5 tells no distances apart beyond
eight, Llama tells none, CLIP reads up to the end token only. Equal tokens stay equal in every
block, so training keeps one of them and lets attention count it as often as it occurs. That is
the same function at a fraction of the cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import settings
from .export import Components

#: T5's relative distances from here on share one bucket.
_T5_REACH = 7


@dataclass(frozen=True, slots=True)
class TextStates:
    """Pooled [B, P], T5 [B, S, D] and Llama [layers, B, S, D] states; last tokens may repeat."""

    pooled: Tensor
    t5: Tensor
    llama: Tensor

    def key_bias(self) -> Tensor:
        """Return what to add to attention logits for the text keys of one block."""
        t5, llama = _bias(self.t5.shape[-2]), _bias(self.llama.shape[-2])
        return torch.cat([t5, llama, llama])

    def summary(self) -> TextStates:
        """Return the states of a caption whose every token is its last padding."""
        return TextStates(self.pooled, self.t5[:, -1:], self.llama[:, :, -1:])


def _bias(tokens: int) -> Tensor:
    bias = torch.zeros(tokens)
    bias[-1] = math.log(settings.TEXT_LENGTH - tokens + 1)
    return bias


def _ids(tokenizer, captions: list[str]) -> tuple[Tensor, Tensor]:
    batch = tokenizer(
        captions,
        padding="max_length",
        max_length=settings.TEXT_LENGTH,
        truncation=True,
        return_tensors="pt",
    )
    return batch.input_ids, batch.attention_mask


def _kept(mask: Tensor, reach: int, compact: bool) -> slice:
    longest = int(mask.sum(1).max())
    return slice(min(settings.TEXT_LENGTH, longest + reach + 1) if compact else None)


def _pooled(tokenizer, clip, captions: list[str], compact: bool) -> Tensor:
    ids, mask = _ids(tokenizer, captions)
    return clip(ids[:, _kept(mask, 0, compact)]).text_embeds


def encode(parts: Components, captions: list[str], *, compact: bool = False) -> TextStates:
    pooled = [
        _pooled(parts.clip_tokenizer, parts.clip, captions, compact),
        _pooled(parts.clip_tokenizer_2, parts.clip_2, captions, compact),
    ]
    ids, mask = _ids(parts.t5_tokenizer, captions)
    kept = _kept(mask, _T5_REACH, compact)
    t5 = parts.t5(ids[:, kept], attention_mask=mask[:, kept]).last_hidden_state
    parts.llama_tokenizer.pad_token = parts.llama_tokenizer.eos_token
    ids, mask = _ids(parts.llama_tokenizer, captions)
    kept = _kept(mask, 0, compact)
    llama = parts.llama.model(
        ids[:, kept], attention_mask=mask[:, kept], output_hidden_states=True
    ).hidden_states[1:]
    return TextStates(torch.cat(pooled, -1), t5, torch.stack(llama))
