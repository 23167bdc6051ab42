"""Prompt → embeddings, by the four text encoders, cached by prompt.

Knows the encoders' conventions; knows nothing of steps, devices of other ranks, or pixels.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from cachetools import LRUCache
from torch import Tensor

from hidream_server.model_directory.components import CLIP_G, CLIP_L, LLAMA, T5, ComponentKind
from hidream_server.model_directory.description import TEXT_TOKENS

#: Takes a component's name and a way to compute something with it; returns the result, wherever
#: it was computed.
Spread = Callable[[str, Callable[[], Tensor]], Tensor]

#: Makes of T5's and the Llama's states what the network reads of them, see `Conditioning`.
Project = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the network is told, for R rows.

    pooled: [R, pooled width]; t5: [R, TEXT_TOKENS, width]; llama: [layers, R, TEXT_TOKENS, width],
    both as the encoders give them or as they were projected.
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

    def row(self, index: int) -> "Conditioning":
        """Return one row by itself."""
        one = slice(index, index + 1)
        return Conditioning(pooled=self.pooled[one], t5=self.t5[one], llama=self.llama[:, one])

    @classmethod
    def stack(cls, parts: list["Conditioning"]) -> "Conditioning":
        """Put rows one after another; a part by itself is not copied."""
        if len(parts) == 1:
            return parts[0]
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
    #: A transformers text encoder, or what calls one.
    module: Callable[..., Any]
    device: torch.device

    def tokens(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return ids and mask, each [1, TEXT_TOKENS], on the device."""
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
        return tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device)


class PromptEncoder:
    """Encodes prompts, and remembers the latest up to a bound in bytes."""

    def __init__(
        self,
        encoders: Mapping[str, TextEncoder],
        cache_bytes: int,
        spread: Spread = lambda _name, compute: compute(),
        project: Project = lambda t5, llama: (t5, llama),
    ) -> None:
        """`encoders` by component name; those that are not here must be somewhere for `spread`.

        What is remembered is already projected.
        """
        self._encoders = encoders
        self._spread = spread
        self._project = project
        #: Prompts that were looked up in the cache, and those that were found there.
        self.lookups = self.hits = 0
        self._cache: LRUCache[str, Conditioning] = LRUCache(
            cache_bytes, getsizeof=lambda conditioning: conditioning.nbytes
        )

    def encode(self, prompt: str) -> Conditioning:
        """Return the conditioning of one prompt, one row."""
        self.lookups += 1
        found = self._cache.get(prompt)
        if found is not None:
            self.hits += 1
        else:
            found = self._encode(prompt)
            if found.nbytes <= self._cache.maxsize:
                self._cache[prompt] = found
        return found

    @torch.inference_mode()
    def _encode(self, prompt: str) -> Conditioning:
        def states(kind: ComponentKind, read: Callable[[TextEncoder, str], Tensor]) -> Tensor:
            return self._spread(kind.name, lambda: read(self._encoders[kind.name], prompt))

        pooled = torch.cat([states(clip, _pooled_clip) for clip in (CLIP_L, CLIP_G)], dim=-1)
        t5, llama = self._project(states(T5, _t5_states), states(LLAMA, _llama_layers))
        return Conditioning(pooled=pooled, t5=t5, llama=llama)


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
