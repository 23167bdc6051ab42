"""The sharding plan, as data: which part of each weight of the transformer a rank holds.

Knows names and shapes; knows neither tensors nor files.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from hidream_server.layouts.layout import Layout

Shape = tuple[int, ...]

#: Feed-forward widths are cut at multiples of this, so that matrix units stay aligned.
GRANULE = 16


@dataclass(frozen=True, slots=True)
class Shard:
    """A weight is cut along `dim`, over tensor-parallel ranks or over tensor × expert ranks."""

    pattern: str
    dim: int
    over_experts: bool = False
    granule: int = 1


#: The first match counts; what matches nothing is held whole by every rank.
PLAN: tuple[Shard, ...] = (
    # Attention: whole heads; the norms' weights go with their columns, the output's bias is whole.
    Shard(r"\.attn1\.to_[qkv](_t)?\.(weight|bias)$", 0),
    Shard(r"\.attn1\.[qk]_rms_norm(_t)?\.weight$", 0),
    Shard(r"\.attn1\.to_out(_t)?\.weight$", 1),
    # Routed experts: each belongs to one expert-parallel rank, and is cut over its tensor ranks.
    Shard(r"\.ff_i\.experts\.\d+\.w[13]\.weight$", 0, granule=GRANULE),
    Shard(r"\.ff_i\.experts\.\d+\.w2\.weight$", 1, granule=GRANULE),
    # Shared experts and text feed-forward see the same tokens on every rank of tensor × expert
    # parallelism: cut over all of them, nothing is computed twice.
    Shard(r"\.(ff_i\.shared_experts|ff_t)\.w[13]\.weight$", 0, True, GRANULE),
    Shard(r"\.(ff_i\.shared_experts|ff_t)\.w2\.weight$", 1, True, GRANULE),
)

_EXPERT = re.compile(r"\.ff_i\.experts\.(\d+)\.")


def span(length: int, parts: int, index: int, granule: int = 1) -> tuple[int, int]:
    """Return start and stop of one of `parts` shares of a length, as even as granules allow."""
    granules = math.ceil(length / granule)
    start, stop = (granules * n // parts * granule for n in (index, index + 1))
    return min(start, length), min(stop, length)


def expert_owner(expert: int, experts: int, layout: Layout) -> int:
    """Return the expert-parallel rank that holds an expert."""
    owners = (n for n in range(layout.ep) if expert < span(experts, layout.ep, n)[1])
    return next(owners)


def local_part(
    name: str, shape: Shape, experts: int, layout: Layout, rank: int
) -> tuple[slice, ...] | None:
    """Return the part of a weight that a rank holds, None if it holds nothing of it."""
    where = layout.coordinates(rank)
    expert = _EXPERT.search(name)
    if expert and expert_owner(int(expert[1]), experts, layout) != where.ep:
        return None
    whole = tuple(slice(0, length) for length in shape)
    shard = next((shard for shard in PLAN if re.search(shard.pattern, name)), None)
    if shard is None:
        return whole
    parts, index = layout.tp, where.tp
    if shard.over_experts:
        parts, index = layout.tp * layout.ep, where.ep * layout.tp + where.tp
    share = slice(*span(shape[shard.dim], parts, index, shard.granule))
    return (*whole[: shard.dim], share, *whole[shard.dim + 1 :])


def local_shape(name: str, shape: Shape, experts: int, layout: Layout, rank: int) -> Shape | None:
    part = local_part(name, shape, experts, layout, rank)
    return None if part is None else tuple(share.stop - share.start for share in part)


def rank_parameters(
    weights: Iterable[tuple[str, Shape]], experts: int, layout: Layout, rank: int
) -> int:
    """Return how many parameters of these weights a rank holds."""
    shapes = (local_shape(name, shape, experts, layout, rank) for name, shape in weights)
    return sum(math.prod(shape) for shape in shapes if shape is not None)
