"""The published transformer's config, and the demo's proportions."""

from hidream_server.model_directory.configs import TransformerConfig

HIDREAM = TransformerConfig(
    patch_size=2,
    in_channels=16,
    num_layers=16,
    num_single_layers=32,
    attention_head_dim=128,
    num_attention_heads=20,
    num_routed_experts=4,
    num_activated_experts=2,
    caption_channels=(4096, 4096),
    text_emb_dim=2048,
    max_resolution=(128, 128),
    llama_layers=[*range(32), *[31] * 16],
)
