"""What a denoising step costs a rank under a layout: arithmetic and traffic, by formulas.

Of the whole network only what grows with the picture is counted; embeddings and modulation are
below one percent.
"""

from dataclasses import dataclass

from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.configs import TransformerConfig
from hidream_server.model_directory.transformer_weights import feed_forward_width

#: Text tokens in attention: T5, the last Llama layer, and each block's own Llama layer.
_TEXT_STREAMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a step works on: image tokens, text tokens per encoder, rows (two when guided)."""

    image_tokens: int
    text_tokens: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Of one rank for one step; a multiply-add counts as two operations."""

    operations: float
    sent_bytes: float

    def seconds(self, operations_per_s: float, bytes_per_s: float) -> float:
        """Return the time without any overlap of computing and sending."""
        return self.operations / operations_per_s + self.sent_bytes / bytes_per_s


def step_cost(
    config: TransformerConfig, layout: Layout, picture: Picture, value_bytes: int = 2
) -> StepCost:
    """Return what a rank computes and sends in one step under a layout."""
    rows = picture.rows if picture.rows % layout.cfg else picture.rows // layout.cfg
    d = config.num_attention_heads * config.attention_head_dim
    text = _TEXT_STREAMS * picture.text_tokens
    tokens = picture.image_tokens + text
    double, single = config.num_layers, config.num_single_layers
    routed = 2 * config.num_activated_experts * 3 * d * feed_forward_width(4 * d)
    shared = 2 * 3 * d * feed_forward_width(2 * d)
    per_token_ff = routed + shared
    attention = 4 * 2 * tokens * d * d + 2 * 2 * tokens * tokens * d
    feed_forward = (double * picture.image_tokens + single * tokens) * per_token_ff
    feed_forward += double * text * 2 * 3 * d * feed_forward_width(4 * d)
    attention *= double + single
    operations = attention / (layout.sp * layout.tp)
    operations += feed_forward / (layout.sp * layout.tp * layout.ep)
    sent = (double + single) * _block_bytes(layout, config, tokens * d * value_bytes)
    return StepCost(operations=rows * operations, sent_bytes=rows * sent)


def _block_bytes(layout: Layout, config: TransformerConfig, activation: int) -> float:
    """Return the bytes that a rank sends for one block and one row of so large an activation."""
    tensor, block, sequence = layout.tp, layout.tp * layout.ep, layout.sp
    own = activation / sequence
    reduces = sum(2 * own * (ranks - 1) / ranks for ranks in (tensor, block))
    ulysses = config.num_attention_heads // tensor % sequence == 0
    others = (sequence - 1) / sequence
    # Ulysses sends queries, keys and values away and results back; else keys and values go round.
    exchange = 4 * own * others if ulysses else 2 * own * (sequence - 1)
    return reduces + exchange / tensor
