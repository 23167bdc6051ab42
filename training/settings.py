"""The shapes of the demo model: every architecture number, once.

Knows nothing of training; what a run varies is an option of the command that runs it.
"""

from __future__ import annotations

from typing import Any

#: Tokens of text per encoder; the server serves this length, so it is trained with it.
TEXT_LENGTH = 128
TEXT_WIDTH = 64
VOCABULARY = 1536

#: Height and width of the pictures the model learns.
PICTURE_SIZES = ((512, 512), (768, 1024), (1024, 768), (1024, 1024))

LATENT_CHANNELS = 16
VAE_CHANNELS = (8, 16, 32, 64, 128, 128)
VAE_FACTOR = 2 ** (len(VAE_CHANNELS) - 1)

HEADS = 4
HEAD_WIDTH = 24
DOUBLE_BLOCKS = 2
SINGLE_BLOCKS = 4
LLAMA_LAYERS = 2

AUTOENCODER: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": LATENT_CHANNELS,
    "block_out_channels": VAE_CHANNELS,
    "down_block_types": ("DownEncoderBlock2D",) * len(VAE_CHANNELS),
    "up_block_types": ("UpDecoderBlock2D",) * len(VAE_CHANNELS),
    "layers_per_block": 1,
    "norm_num_groups": 1,
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "sample_size": 1024,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
}

TRANSFORMER: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_layers": DOUBLE_BLOCKS,
    "num_single_layers": SINGLE_BLOCKS,
    "attention_head_dim": HEAD_WIDTH,
    "num_attention_heads": HEADS,
    "caption_channels": [TEXT_WIDTH, TEXT_WIDTH],
    "text_emb_dim": 2 * TEXT_WIDTH,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "axes_dims_rope": (4, 10, 10),
    "max_resolution": (1024 // VAE_FACTOR, 1024 // VAE_FACTOR),
    "llama_layers": [0] + [1] * (DOUBLE_BLOCKS + SINGLE_BLOCKS - 1),
}

CLIP: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 2 * TEXT_WIDTH,
    "projection_dim": TEXT_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 248,
}

T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": TEXT_WIDTH,
    "d_kv": 16,
    "d_ff": 2 * TEXT_WIDTH,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
    # Beyond this distance all positions look alike: the padding after a caption soon becomes
    # one repeated token, which training computes once (see text.py).
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 8,
    "dropout_rate": 0.0,
}

LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 2 * TEXT_WIDTH,
    "num_hidden_layers": LLAMA_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    # Positions stretched until they vanish: order comes from the causal mask alone, and every
    # padding token is the same (see text.py).
    "rope_parameters": {"rope_type": "linear", "factor": 1e6, "rope_theta": 10000.0},
}

SCHEDULER: dict[str, Any] = {
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
}

FAST_SCHEDULER: dict[str, Any] = {"shift": 3.0}
