"""The whole network as one call, whatever part of it this rank computes.

Deals rows to guidance-parallel ranks and tokens to sequence-parallel ones, and puts the output
together again, equal on all ranks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor

from hidream_server.layouts.sharding import span
from hidream_server.parallel.place import Place
from hidream_server.parallel.sequence import SequenceParallelAttention


class Network:
    """latents [R, C, H, W] and what belongs to R rows → output [R, C, H, W], on every rank."""

    def __init__(
        self,
        transformer: HiDreamImageTransformer2DModel,
        place: Place,
        attention: SequenceParallelAttention | None,
    ) -> None:
        self._transformer = transformer
        self._place = place
        self._attention = attention

    @property
    def config(self) -> Any:
        """The transformer's config."""
        return self._transformer.config

    def weight_bytes(self) -> int:
        """Return what this rank holds of the network."""
        return sum(parameter.nbytes for parameter in self._transformer.parameters())

    def __call__(
        self, latents: Tensor, timesteps: Tensor, t5: Tensor, llama: Tensor, pooled: Tensor
    ) -> Tensor:
        """t5 [R, T, D5], llama [layers, R, T, Dl], pooled [R, P]."""
        latents = latents.to(self._transformer.device, self._transformer.dtype)
        timesteps = timesteps.to(self._transformer.device)
        guidance = self._place.guidance
        rows = slice(None)
        split = guidance.size > 1 and latents.shape[0] % guidance.size == 0
        if split:
            rows = slice(*span(latents.shape[0], guidance.size, guidance.index))
        mine = (latents[rows], timesteps[rows], t5[rows], llama[:, rows], pooled[rows])
        output = self._forward(*mine) if self._attention is None else self._some_tokens(*mine)
        if split:
            output = torch.cat(guidance.all_gather(output))
        # Ranks that computed parts of the same sums may have rounded differently.
        return self._place.block.broadcast(output)

    def _some_tokens(
        self, latents: Tensor, timesteps: Tensor, t5: Tensor, llama: Tensor, pooled: Tensor
    ) -> Tensor:
        """Compute a share of the tokens by the model's own path for tokens."""
        tokens, mask, sizes, ids = self._transformer.patchify(latents)
        if tokens.shape[1] < self._place.sequence.size:
            self._attention.lengths = []
            return self._forward(latents, timesteps, t5, llama, pooled)
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=tokens.dtype, device=tokens.device)
        image = self._spans(tokens.shape[1])
        text = self._spans(t5.shape[1])
        # Each block reads three texts: T5, the last Llama layer and its own.
        self._attention.lengths = [
            stop - start + 3 * (t_stop - t_start)
            for (start, stop), (t_start, t_stop) in zip(image, text, strict=True)
        ]
        index = self._place.sequence.index
        here, words = slice(*image[index]), slice(*text[index])
        count = here.stop - here.start
        strip = self._forward(
            tokens[:, here],
            timesteps,
            t5[:, words],
            llama[:, :, words],
            pooled,
            hidden_states_masks=mask[:, here],
            img_ids=ids[:, here],
            img_sizes=[(1, count)] * len(latents),
        )
        whole = self._gather(self._tokens_of(strip), image)
        return self._transformer.unpatchify(whole, sizes.tolist(), False)

    def _spans(self, length: int) -> list[tuple[int, int]]:
        ranks = self._place.sequence.size
        return [span(length, ranks, n) for n in range(ranks)]

    def _tokens_of(self, strip: Tensor) -> Tensor:
        """Undo what the model did to the output: a strip of patches, one row high, to tokens."""
        rows, channels, patch, width = strip.shape
        patches = strip.view(rows, channels, patch, width // patch, patch)
        return patches.permute(0, 3, 2, 4, 1).flatten(2)

    def _gather(self, tokens: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
        longest = max(stop - start for start, stop in spans)
        padded = torch.nn.functional.pad(tokens, (0, 0, 0, longest - tokens.shape[1]))
        parts = self._place.sequence.all_gather(padded)
        pieces = [part[:, : stop - start] for part, (start, stop) in zip(parts, spans, strict=True)]
        return torch.cat(pieces, 1)

    def _forward(
        self,
        hidden: Tensor,
        timesteps: Tensor,
        t5: Tensor,
        llama: Tensor,
        pooled: Tensor,
        **tokens: object,
    ) -> Tensor:
        return self._transformer(
            hidden_states=hidden,
            timesteps=timesteps,
            encoder_hidden_states_t5=t5,
            encoder_hidden_states_llama3=llama,
            pooled_embeds=pooled,
            return_dict=False,
            **tokens,
        )[0]
