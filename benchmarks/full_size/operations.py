"""How many operations a forward pass and its parts take; a multiply-add counts as two.

What a whole picture's tokens cost is `layouts.cost`'s; here is the little that it leaves out.
"""

from hidream_server.layouts.cost import Picture, step_cost
from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.configs import TransformerConfig
from hidream_server.model_directory.description import TEXT_TOKENS
from hidream_server.model_directory.transformer_weights import feed_forward_width

_TIMESTEP_FREQUENCIES = 256
_TEXT_STREAMS = 3


def width(config: TransformerConfig) -> int:
    return config.num_attention_heads * config.attention_head_dim


def forward(config: TransformerConfig, image_tokens: int, rows: int) -> float:
    """Return those of a stock forward pass, which projects captions in every step."""
    picture = Picture(image_tokens=image_tokens, text_tokens=TEXT_TOKENS, rows=rows)
    blocks = step_cost(config, Layout(), picture).operations
    return blocks + rows * 2 * (_embeddings(config, image_tokens) + _beside(config, image_tokens))


def _embeddings(config: TransformerConfig, image_tokens: int) -> int:
    """Multiply-adds of what comes before and after the blocks."""
    d, patch = width(config), config.patch_size**2
    t5, llama = config.caption_channels
    blocks = config.num_layers + config.num_single_layers
    channels = config.in_channels + (config.out_channels or config.in_channels)
    patches = image_tokens * patch * d * channels
    vectors = d * (_TIMESTEP_FREQUENCIES + d + config.text_emb_dim + d + 2 * d)
    return patches + vectors + TEXT_TOKENS * d * (blocks * llama + t5)


def _beside(config: TransformerConfig, image_tokens: int) -> int:
    """Multiply-adds of the blocks' modulations and gates."""
    d, double, single = width(config), config.num_layers, config.num_single_layers
    tokens = image_tokens + _TEXT_STREAMS * TEXT_TOKENS
    routed = double * image_tokens + single * tokens
    return (12 * double + 6 * single) * d * d + routed * d * config.num_routed_experts


def feed_forward(config: TransformerConfig, tokens: int) -> float:
    """Return those of one sparse feed-forward."""
    d = width(config)
    inner = config.num_activated_experts * feed_forward_width(4 * d) + feed_forward_width(2 * d)
    return 2.0 * tokens * d * (3 * inner + config.num_routed_experts)


def scores(config: TransformerConfig, rows: int, tokens: int) -> float:
    """Return those of attention between projected tokens."""
    return 4.0 * rows * tokens**2 * width(config)


def attention(config: TransformerConfig, rows: int, tokens: int) -> float:
    """Return those of one attention with its projections."""
    return 8.0 * rows * tokens * width(config) ** 2 + scores(config, rows, tokens)
