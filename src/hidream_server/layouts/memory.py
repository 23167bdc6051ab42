"""What each rank must hold under a layout, computed before anything is loaded.

Weights are exact. Working memory is an estimate from the largest tensors of a step and of decoding.
Text encoders for which there is no room wait in the host's memory and visit the device.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from hidream_server.errors import LayoutUnavailableError
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.placement import place_components
from hidream_server.layouts.sharding import rank_parameters
from hidream_server.model_directory.components import TRANSFORMER, VAE
from hidream_server.model_directory.configs import TransformerConfig
from hidream_server.model_directory.description import TEXT_TOKENS, ModelDescription
from hidream_server.model_directory.transformer_weights import expected_weights, feed_forward_width

#: Weights that are held in fp8 as well, where that is asked for: those of the blocks' products.
FP8_WEIGHTS = re.compile(
    r"\.(attn1\.to_(q|k|v|out)(_t)?|ff_i\.(experts\.\d+|shared_experts)\.w[123]|ff_t\.w[123])"
    r"\.weight$"
)
#: Of one rank: device libraries, communicators, fragmentation.
OVERHEAD_BYTES = 2**30
#: Decoding holds so many maps of the finest level at once, each of so many channels.
_DECODER_MAPS, _DECODER_CHANNELS = 4, 128
#: Tensors of the token width that live together inside a block.
_TOKEN_TENSORS = 10
#: And so many of the experts' inner width; with fp8 one is rounded by way of 32 bit, as two are.
_INSIDE_TENSORS, _ROUNDING_TENSORS = 3, 2
#: Of a device's memory; the rest is lost to the driver and to fragmentation.
_USABLE = 0.92
_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a rank may fill, in bytes, and with what."""

    #: Of the smallest device, None where nobody says.
    device_bytes: int | None
    dtype_bytes: int
    prompt_cache_bytes: int
    #: Tasks on hand at once, each with the embeddings of its prompts.
    max_running: int
    #: Rows of the largest picture that share a step.
    rows: int = 2
    #: Whether text encoders wait in the host's memory: auto, always, never.
    offload: str = "auto"
    #: Weights of products are held in fp8, too.
    fp8: bool = False

    @property
    def usable(self) -> float:
        return math.inf if self.device_bytes is None else _USABLE * self.device_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMemory:
    """Bytes of one rank's device."""

    rank: int
    #: With the copies in fp8.
    transformer: int
    #: By name, what else it holds.
    components: dict[str, int]
    #: By name, what waits in the host's memory and is on the device one at a time.
    offloaded: dict[str, int]
    working: int
    #: Embeddings: cached ones, and those of the tasks on hand.
    prompts: int

    @property
    def beside(self) -> int:
        """Of encoders and autoencoder, the most that is on the device at once."""
        return sum(self.components.values()) + max(self.offloaded.values(), default=0)

    @property
    def total(self) -> int:
        return self.transformer + self.beside + self.working + self.prompts


def plan_memory(model: ModelDescription, layout: Layout, room: Room) -> list[RankMemory]:
    """Return what each rank of a group holds, whether there is room for it or not."""
    weights = expected_weights(model.transformer)
    sizes = {
        part.name: part.parameters * room.dtype_bytes
        for part in model.components
        if part.name != TRANSFORMER.name
    }
    owners = place_components(sizes, layout.ranks)
    experts = model.transformer.num_routed_experts
    on_hand = room.max_running * 2 * prompt_values(model.transformer) * room.dtype_bytes
    prompts = room.prompt_cache_bytes + on_hand
    plan = []
    for rank in range(layout.ranks):
        mine = {name: sizes[name] for name, owner in owners.items() if owner == rank}
        transformer = rank_parameters(weights.items(), experts, layout, rank) * room.dtype_bytes
        if room.fp8:
            products = (weight for weight in weights.items() if FP8_WEIGHTS.search(weight[0]))
            transformer += rank_parameters(products, experts, layout, rank)
        working = _working(model, layout, room, decodes=VAE.name in mine)
        leaner = (
            RankMemory(
                rank=rank,
                transformer=transformer,
                components={name: size for name, size in mine.items() if name not in offloaded},
                offloaded={name: mine[name] for name in offloaded},
                working=working,
                prompts=prompts,
            )
            for offloaded in _offload_choices(mine, room.offload)
        )
        plan.append(_first_that_fits(leaner, room.usable))
    return plan


def prompt_values(config: TransformerConfig) -> int:
    """Return how many numbers the embeddings of one prompt are, projected for each block and T5."""
    width = config.num_attention_heads * config.attention_head_dim
    blocks = config.num_layers + config.num_single_layers
    return TEXT_TOKENS * (blocks + 1) * width + config.text_emb_dim


def _offload_choices(sizes: dict[str, int], offload: str) -> list[tuple[str, ...]]:
    """Return which components may wait together, those with the fewest bytes to move first."""
    encoders = [name for name in sizes if name != VAE.name]
    if offload == "never":
        return [()]
    if offload == "always":
        return [tuple(encoders)]
    counts = range(len(encoders) + 1)
    together = chain.from_iterable(combinations(encoders, count) for count in counts)
    return sorted(together, key=lambda names: sum(sizes[name] for name in names))


def _first_that_fits(plans: Iterator[RankMemory], usable: float) -> RankMemory:
    """Return the last, which is the leanest, if none fits."""
    for plan in plans:
        if plan.total <= usable:
            break
    return plan


def fits(plan: Sequence[RankMemory], room: Room) -> bool:
    return all(rank.total <= room.usable for rank in plan)


def check_memory(plan: Sequence[RankMemory], room: Room, layout: Layout) -> None:
    """Raise LayoutUnavailableError, with the numbers, for a rank that holds more than there is."""
    if fits(plan, room):
        return
    fullest = max(plan, key=lambda rank: rank.total)
    raise LayoutUnavailableError(
        f"The layout {layout} does not fit: rank {fullest.rank} needs"
        f" {fullest.total / _GB:.1f} GB and of its device {room.usable / _GB:.1f} GB can be used."
        " Use more devices, or a layout with a larger tp."
    )


def _working(model: ModelDescription, layout: Layout, room: Room, decodes: bool) -> int:
    """Return the bytes of a step and of a decoding, which may go on at the same time."""
    rows = room.rows // layout.cfg
    inside = _INSIDE_TENSORS + (_ROUNDING_TENSORS if room.fp8 else 0)
    step = _step_values(model.transformer, layout, model.max_image_tokens, rows, inside)
    pixels = model.max_image_tokens * model.size_multiple**2
    decode = pixels * _DECODER_MAPS * _DECODER_CHANNELS if decodes else 0
    return OVERHEAD_BYTES + (step + decode) * room.dtype_bytes


def _step_values(
    config: TransformerConfig, layout: Layout, image_tokens: int, rows: int, inside_tensors: int
) -> int:
    """Return the numbers that a step holds at once: tokens, and the experts' inside."""
    tokens = (image_tokens + 3 * TEXT_TOKENS) // layout.sp
    width = config.num_attention_heads * config.attention_head_dim
    experts = config.num_activated_experts * feed_forward_width(4 * width)
    inside = inside_tensors * experts // layout.tp
    return rows * tokens * (_TOKEN_TENSORS * width + inside)
