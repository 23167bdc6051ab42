"""Turns diffusers' transformer, still without weights, into the part of it that a rank computes.

The plan says what is cut; this puts the operators in that make the parts work together.
"""

import re

import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import nn

from hidream_server.layouts.sharding import expert_owner, local_shape
from hidream_server.model.mixture import Mixture
from hidream_server.model.moe import RoutedExperts, SparseFeedForward
from hidream_server.parallel.attention import ParallelAttentionProcessor, attend
from hidream_server.parallel.feed_forward import ParallelSparseFeedForward
from hidream_server.parallel.place import Place
from hidream_server.parallel.sequence import SequenceParallelAttention


def shard(
    transformer: HiDreamImageTransformer2DModel, place: Place, mixture: Mixture
) -> SequenceParallelAttention | None:
    """Leave of a transformer on the meta device what this rank computes, and how.

    Returns what has to know the token counts before each forward pass, if there is such a thing.
    """
    heads = transformer.config.num_attention_heads // place.layout.tp
    sequence = None
    if place.sequence.size > 1:
        sequence = SequenceParallelAttention(place.sequence, heads)
    processor = ParallelAttentionProcessor(place.tensor, sequence or attend)
    for block in (*transformer.double_stream_blocks, *transformer.single_stream_blocks):
        inner = block.block
        inner.ff_i = _sparse_feed_forward(inner.ff_i, place, mixture)
        if place.tensor.size > 1 or sequence is not None:
            inner.attn1.heads = heads
            inner.attn1.set_processor(processor)
        if place.block.size > 1 and not inner.attn1.single:
            inner.ff_t.register_forward_hook(lambda _, __, output: place.block.all_reduce(output))
    _shrink(transformer, place)
    return sequence


def _sparse_feed_forward(whole: nn.Module, place: Place, mixture: Mixture) -> SparseFeedForward:
    count = len(whole.experts)
    owned = [n for n in range(count) if expert_owner(n, count, place.layout) == _ep(place)]
    hidden, width = whole.experts[0].w1.weight.shape
    name = f".ff_i.experts.{owned[0]}.w1.weight"
    local = local_shape(name, (hidden, width), count, place.layout, place.rank)
    assert local is not None
    with torch.device("meta"):
        experts = RoutedExperts(owned[0], len(owned), width, local[0], mixture)
    if place.block.size == 1:
        return SparseFeedForward(whole.gate, experts, whole.shared_experts)
    return ParallelSparseFeedForward(whole.gate, experts, whole.shared_experts, place.block)


def _ep(place: Place) -> int:
    return place.layout.coordinates(place.rank).ep


def _shrink(transformer: HiDreamImageTransformer2DModel, place: Place) -> None:
    """Give every parameter that is not a routed expert's the shape of this rank's part."""
    experts = transformer.config.num_routed_experts
    for name, parameter in list(transformer.named_parameters()):
        if re.search(r"\.ff_i\.experts\.w", name):
            continue
        shape = local_shape(name, tuple(parameter.shape), experts, place.layout, place.rank)
        assert shape is not None
        if shape != parameter.shape:
            owner, _, leaf = name.rpartition(".")
            empty = torch.empty(shape, dtype=parameter.dtype, device="meta")
            setattr(
                transformer.get_submodule(owner), leaf, nn.Parameter(empty, requires_grad=False)
            )
