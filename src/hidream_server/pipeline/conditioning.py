"""Prompt → embeddings, by the four text encoders, cached by prompt.

Knows the encoders' conventions; knows nothing of steps, devices of other ranks, or pixels.
"""

import logging
from dataclasses import dataclass
from typing import Protocol

import torch
from cachetools import LRUCache
from torch import Tensor
from torch.nn import Module

logger = logging.getLogger(__name__)

#: Tokens per prompt for every encoder. The network sees the padding, so this is part of what a
#: seed means and never changes.
TEXT_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the network is told, for R rows.

    pooled: [R, pooled width]; t5: [R, TEXT_TOKENS, T5 width];
    llama: [layers, R, TEXT_TOKENS, Llama width].
    """

    pooled: Tensor
    t5: Tensor
    llama: Tensor

    @property
    def rows(self) -> int:
        return self.pooled.shape[0]

    @property
    def nbytes(self) -> int:
        return self.pooled.nbytes + self.t5.nbytes + self.llama.nbytes

    @classmethod
    def stack(cls, parts: list["Conditioning"]) -> "Conditioning":
        """Put rows one after another."""
        return cls(
            pooled=torch.cat([part.pooled for part in parts]),
            t5=torch.cat([part.t5 for part in parts]),
            llama=torch.cat([part.llama for part in parts], dim=1),
        )


class Tokenizer(Protocol):
    """A transformers tokenizer."""

    def __call__(self, text: list[str] | str, **options: object) -> "Tokens": ...


class Tokens(Protocol):
    """Ids and attention mask, each [1, TEXT_TOKENS], on the CPU."""

    input_ids: Tensor
    attention_mask: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """One of the four encoders with its tokenizer."""

    tokenizer: Tokenizer
    module: Module

    def tokens(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return ids and mask, each [1, TEXT_TOKENS], on the encoder's device."""
        tokens = self.tokenizer(
            [prompt],
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_tensors="pt",
            return_attention_mask=True,
        )
        if tokens.attention_mask.all() and len(self.tokenizer(prompt).input_ids) > TEXT_TOKENS:
            logger.warning("The prompt is longer than the %d tokens that count", TEXT_TOKENS)
        device = next(self.module.parameters()).device
        return tokens.input_ids.to(device), tokens.attention_mask.to(device)


class PromptEncoder:
    """Encodes prompts, and remembers the latest up to a bound in bytes."""

    def __init__(
        self,
        clip_l: TextEncoder,
        clip_g: TextEncoder,
        t5: TextEncoder,
        llama: TextEncoder,
        cache_bytes: int,
    ) -> None:
        self._clips = (clip_l, clip_g)
        self._t5 = t5
        self._llama = llama
        self._cache: LRUCache[str, Conditioning] = LRUCache(
            cache_bytes, getsizeof=lambda conditioning: conditioning.nbytes
        )

    def encode(self, prompt: str) -> Conditioning:
        """Return the conditioning of one prompt, one row."""
        found = self._cache.get(prompt)
        if found is None:
            found = self._encode(prompt)
            if found.nbytes <= self._cache.maxsize:
                self._cache[prompt] = found
        return found

    @torch.inference_mode()
    def _encode(self, prompt: str) -> Conditioning:
        return Conditioning(
            pooled=torch.cat([_pooled_clip(clip, prompt) for clip in self._clips], dim=-1),
            t5=_t5_states(self._t5, prompt),
            llama=_llama_layers(self._llama, prompt),
        )


def _pooled_clip(clip: TextEncoder, prompt: str) -> Tensor:
    """The projected pooled output; these encoders were trained to see the padding."""
    ids, _ = clip.tokens(prompt)
    return clip.module(ids).text_embeds


def _t5_states(t5: TextEncoder, prompt: str) -> Tensor:
    ids, mask = t5.tokens(prompt)
    return t5.module(ids, attention_mask=mask).last_hidden_state


def _llama_layers(llama: TextEncoder, prompt: str) -> Tensor:
    """The output of every layer; the module is the bare model, logits are not needed."""
    ids, mask = llama.tokens(prompt)
    output = llama.module(ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return torch.stack(output.hidden_states[1:])
