"""The whole network as one call, whatever part of it this rank computes.

Deals rows to guidance-parallel ranks and tokens to sequence-parallel ones, and puts the output
together again, equal on all ranks.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor

from hidream_server.layouts.sharding import span
from hidream_server.model.captions import CaptionProjections
from hidream_server.model.compilation import compile_blocks
from hidream_server.model.fp8 import in_fp8
from hidream_server.model.patches import Patches
from hidream_server.model.positions import RememberedPositions
from hidream_server.parallel.place import Place
from hidream_server.parallel.ranks import Alone, Ranks
from hidream_server.parallel.sequence import SequenceParallelAttention


class Network:
    """Latents of R rows and what belongs to them → as many outputs, on every rank.

    The transformer is run by its own path for tokens: rows of different shapes can share it, and
    what it would have to ask the device, like sizes, is known here.
    """

    def __init__(
        self,
        transformer: HiDreamImageTransformer2DModel,
        captions: CaptionProjections,
        positions: RememberedPositions,
        place: Place,
        attention: SequenceParallelAttention | None,
    ) -> None:
        self._transformer = transformer
        #: Multiplies in fp8; made when that is asked for.
        self._fp8: HiDreamImageTransformer2DModel | None = None
        self._captions = captions
        self._positions = positions
        self._place = place
        self._attention = attention
        #: The first step with rows of one kind, or of several shapes, takes minutes.
        self.compiled = False
        self._patches = Patches(transformer)
        # Diffusers looks at every parameter to tell.
        self._device, self._dtype = transformer.device, transformer.dtype

    @property
    def config(self) -> Any:
        """The transformer's config; of Llama layers it has those that `project` returns."""
        return self._transformer.config

    def weight_bytes(self) -> int:
        """Return what this rank holds of the network."""
        parameters = chain(self._transformer.parameters(), self._captions.parameters())
        copied = () if self._fp8 is None else self._fp8.buffers()
        return sum(tensor.nbytes for tensor in chain(parameters, copied))

    def add_fp8(self) -> None:
        """Round the blocks' weights to fp8, in copies; to be done before blocks are compiled."""
        self._fp8 = in_fp8(self._transformer)

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compile what takes a step's time; the first steps after it take minutes."""
        spread = self._place.block.size > 1 or self._place.sequence.size > 1
        for transformer in filter(None, (self._transformer, self._fp8)):
            compile_blocks(transformer, whole=not spread, backend=backend)
        self.compiled = True

    def project(self, t5: Tensor, llama: Tensor) -> tuple[Tensor, Tensor]:
        """Return encoders' states as a call takes them: once for a prompt, not in each step.

        t5 [R, T, D5], llama [layers, R, T, Dl] → [R, T, D], [blocks, R, T, D].
        """
        return self._captions(t5, llama)

    def __call__(
        self,
        latents: Sequence[Tensor],
        timesteps: Tensor,
        t5: Tensor,
        llama: Tensor,
        pooled: Tensor,
        fp8: bool = False,
    ) -> list[Tensor]:
        """R latents [1, C, H, W] on one device, timesteps [R] on the CPU, pooled [R, P], and what
        `project` made, on the network's, where the outputs are.

        Rows may have different shapes if they have as many tokens: what is not square is padded to
        the most that the model takes. Raises RuntimeError for rows that have not. With `fp8`, which
        must have been added, blocks multiply in that.
        """
        transformer = self._fp8 if fp8 else self._transformer
        assert transformer is not None
        guidance = self._place.guidance
        rows = slice(None)
        split = guidance.size > 1 and len(latents) % guidance.size == 0
        if split:
            rows = slice(*span(len(latents), guidance.size, guidance.index))
        mine = (latents[rows], timesteps[rows], t5[rows], llama[:, rows], pooled[rows])
        tokens = self._output_tokens(transformer, *mine)
        if split:
            tokens = torch.cat(guidance.all_gather(tokens))
        # Ranks that computed parts of the same sums may have rounded differently.
        tokens = self._place.block.broadcast(tokens)
        outputs = zip(tokens.split(1), map(self._patches.grid, latents), strict=True)
        return [self._transformer.unpatchify(row, [grid], False) for row, grid in outputs]

    def _output_tokens(
        self,
        transformer: HiDreamImageTransformer2DModel,
        latents: Sequence[Tensor],
        timesteps: Tensor,
        t5: Tensor,
        llama: Tensor,
        pooled: Tensor,
    ) -> Tensor:
        """Compute a share of the tokens, gather all: [R, S, patch² · C]."""
        tokens, mask, ids = self._patchify(latents)
        # Where there are fewer tokens than ranks, every rank computes all of them.
        ranks = self._place.sequence if tokens.shape[1] >= self._place.sequence.size else Alone()
        image, text = (_spans(length, ranks.size) for length in (tokens.shape[1], t5.shape[1]))
        if self._attention is not None:
            self._attention.lengths = _lengths(image, text) if ranks.size > 1 else []
        self._positions.grids = [self._patches.grid(latent) for latent in latents]
        here, words = slice(*image[ranks.index]), slice(*text[ranks.index])
        strip = transformer(
            hidden_states=tokens[:, here],
            timesteps=timesteps.to(self._device),
            encoder_hidden_states_t5=t5[:, words],
            encoder_hidden_states_llama3=llama[:, :, words],
            pooled_embeds=pooled,
            hidden_states_masks=mask[:, here],
            img_ids=ids[:, here],
            img_sizes=[(1, here.stop - here.start)] * len(latents),
            return_dict=False,
        )[0]
        return _gather(self._tokens_of(strip), image, ranks)

    def _patchify(self, latents: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens [R, S, patch² · C], mask [R, S] and position ids [R, S, 3], on the device.

        Latents of another number of tokens than the others raise RuntimeError.
        """
        constants = [self._patches.constants(self._patches.grid(latent)) for latent in latents]
        masks, ids = zip(*constants, strict=True)
        tokens = torch.cat([self._patches.tokens(latent) for latent in latents])
        return tokens.to(self._device, self._dtype), torch.cat(masks), torch.cat(ids)

    def _tokens_of(self, strip: Tensor) -> Tensor:
        """Undo what the model did to the output: a strip of patches, one row high, to tokens."""
        rows, channels, patch, width = strip.shape
        patches = strip.view(rows, channels, patch, width // patch, patch)
        return patches.permute(0, 3, 2, 4, 1).flatten(2)


def _spans(length: int, ranks: int) -> list[tuple[int, int]]:
    return [span(length, ranks, n) for n in range(ranks)]


def _lengths(image: Sequence[tuple[int, int]], text: Sequence[tuple[int, int]]) -> list[int]:
    """Return the tokens of each rank: a block reads T5, the last Llama layer, and its own."""
    return [
        stop - start + 3 * (text_stop - text_start)
        for (start, stop), (text_start, text_stop) in zip(image, text, strict=True)
    ]


def _gather(tokens: Tensor, spans: Sequence[tuple[int, int]], ranks: Ranks) -> Tensor:
    longest = max(stop - start for start, stop in spans)
    padded = torch.nn.functional.pad(tokens, (0, 0, 0, longest - tokens.shape[1]))
    parts = ranks.all_gather(padded)
    pieces = [part[:, : stop - start] for part, (start, stop) in zip(parts, spans, strict=True)]
    return torch.cat(pieces, 1)
