"""What each rank must hold under a layout, computed before anything is loaded.

Weights are exact. Working memory is an estimate from the largest tensors of a step and of decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hidream_server.errors import LayoutUnavailableError
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.placement import place_components
from hidream_server.layouts.sharding import rank_parameters
from hidream_server.model_directory.components import TRANSFORMER, VAE
from hidream_server.model_directory.configs import TransformerConfig
from hidream_server.model_directory.description import TEXT_TOKENS, ModelDescription
from hidream_server.model_directory.transformer_weights import expected_weights, feed_forward_width

#: Of one rank: device libraries, communicators, fragmentation.
OVERHEAD_BYTES = 2**30
#: Decoding holds so many maps of the finest level at once, each of so many channels.
_DECODER_MAPS, _DECODER_CHANNELS = 4, 128
#: Tensors of the token width that live together inside a block.
_TOKEN_TENSORS = 10
#: Of a device's memory; the rest is lost to the driver and to fragmentation.
_USABLE = 0.92
_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMemory:
    """Bytes of one rank."""

    rank: int
    transformer: int
    #: By name, what else it holds.
    components: dict[str, int]
    working: int
    prompt_cache: int

    @property
    def total(self) -> int:
        held = self.transformer + sum(self.components.values())
        return held + self.working + self.prompt_cache


def plan_memory(
    model: ModelDescription, layout: Layout, dtype_bytes: int, prompt_cache_bytes: int
) -> list[RankMemory]:
    """Return what each rank of a group holds."""
    weights = expected_weights(model.transformer)
    sizes = {
        part.name: part.parameters * dtype_bytes
        for part in model.components
        if part.name != TRANSFORMER.name
    }
    owners = place_components(sizes, layout.ranks)
    experts = model.transformer.num_routed_experts
    plan = []
    for rank in range(layout.ranks):
        mine = {name: sizes[name] for name, owner in owners.items() if owner == rank}
        parameters = rank_parameters(weights.items(), experts, layout, rank)
        plan.append(
            RankMemory(
                rank=rank,
                transformer=parameters * dtype_bytes,
                components=mine,
                working=_working(model, layout, dtype_bytes, decodes=VAE.name in mine),
                prompt_cache=prompt_cache_bytes,
            )
        )
    return plan


def check_memory(plan: Sequence[RankMemory], available: int | None, layout: Layout) -> None:
    """Raise LayoutUnavailableError, with the numbers, for a rank that holds more than there is."""
    if available is None:
        return
    fullest, usable = max(plan, key=lambda rank: rank.total), _USABLE * available
    if fullest.total > usable:
        raise LayoutUnavailableError(
            f"The layout {layout} does not fit: rank {fullest.rank} needs"
            f" {fullest.total / _GB:.1f} GB and of its device {usable / _GB:.1f} GB can be used."
            " Use more devices, or a layout with a larger tp."
        )


def _working(model: ModelDescription, layout: Layout, dtype_bytes: int, decodes: bool) -> int:
    step = _step_bytes(model.transformer, layout, model.max_image_tokens) * dtype_bytes
    pixels = model.max_image_tokens * model.size_multiple**2
    decode = pixels * _DECODER_MAPS * _DECODER_CHANNELS * dtype_bytes if decodes else 0
    return OVERHEAD_BYTES + max(step, decode)


def _step_bytes(config: TransformerConfig, layout: Layout, image_tokens: int) -> int:
    """Return the numbers that a guided step holds at once: tokens, and the experts' inside."""
    rows = 2 // layout.cfg
    tokens = (image_tokens + 3 * TEXT_TOKENS) // layout.sp
    width = config.num_attention_heads * config.attention_head_dim
    inside = 3 * config.num_activated_experts * feed_forward_width(4 * width) // layout.tp
    return rows * tokens * (_TOKEN_TENSORS * width + inside)
