"""The published configuration of every component, and a small one of the same shape.

The defaults of the libraries' classes are not what was published.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hidream_server.model_directory.components import CLIP_G, CLIP_L, LLAMA, T5
from hidream_server.model_directory.configs import TransformerConfig
from hidream_server.model_directory.description import Component, ModelDescription, Variant

Config = Mapping[str, Any]

_UNIPC = "UniPCMultistepScheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One configuration of all components, and how much of it is run."""

    name: str
    transformer: Config
    vae: Config
    #: By component name.
    encoders: Mapping[str, Config]
    #: Width and height of the picture, in pixels.
    side: int
    #: Steps of one run of the denoising loop; the first is not counted.
    steps: int
    #: Steps of whole pictures.
    picture_steps: Mapping[Variant, int]
    #: How often single operators are called.
    calls: int
    #: Side of the square matrices that show what the device can do, and bytes of the copy.
    matrix: int
    copied_bytes: int

    @property
    def network(self) -> TransformerConfig:
        """The transformer's config as this project reads it."""
        return msgspec.convert(dict(self.transformer), TransformerConfig)

    @property
    def latent_side(self) -> int:
        return self.side // 2 ** (len(self.vae["block_out_channels"]) - 1)

    @property
    def image_tokens(self) -> int:
        return (self.latent_side // self.network.patch_size) ** 2

    def description(
        self, variant: Variant = Variant.FULL, parameters: Mapping[str, int] = {}
    ) -> ModelDescription:
        """Return what a model directory of this size would be; `parameters` by component name."""
        network = self.network
        height, width = network.max_resolution
        return ModelDescription(
            name=f"HiDream-I1-{variant}",
            path=Path(),
            extra_path=None,
            variant=variant,
            sampler=_UNIPC if variant is Variant.FULL else "FlowMatchLCMScheduler",
            is_demo=False,
            size_multiple=network.patch_size * self.side // self.latent_side,
            max_image_tokens=height * width // network.patch_size**2,
            transformer=network,
            components=tuple(
                Component(name, "", Path(), (), count) for name, count in parameters.items()
            ),
        )


_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 16,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "force_upcast": True,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": True,
}

_ALIKE = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
}

_T5 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "is_decoder": False}

#: As published: HiDream-I1-Full, and Llama-3.1-8B-Instruct without its head.
FULL = Size(
    name="full",
    transformer=_ALIKE
    | {
        "num_layers": 16,
        "num_single_layers": 32,
        "attention_head_dim": 128,
        "num_attention_heads": 20,
        "caption_channels": [4096, 4096],
        "text_emb_dim": 2048,
        "axes_dims_rope": [64, 32, 32],
        "max_resolution": [128, 128],
        "llama_layers": [*range(32), *[31] * 16],
    },
    vae=_VAE
    | {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32},
    encoders={
        CLIP_L.name: {
            "vocab_size": 49408,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "projection_dim": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "max_position_embeddings": 248,
            "hidden_act": "quick_gelu",
        },
        CLIP_G.name: {
            "vocab_size": 49408,
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "projection_dim": 1280,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "max_position_embeddings": 218,
            "hidden_act": "gelu",
        },
        T5.name: _T5
        | {
            "vocab_size": 32128,
            "d_model": 4096,
            "d_kv": 64,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
        },
        LLAMA.name: {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    },
    side=1024,
    steps=4,
    picture_steps={variant: variant.default_steps for variant in Variant},
    calls=20,
    matrix=8192,
    copied_bytes=4 * 2**30,
)

SMALL = Size(
    name="small",
    transformer=_ALIKE
    | {
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 32,
        "num_attention_heads": 4,
        "caption_channels": [64, 64],
        "text_emb_dim": 64,
        "axes_dims_rope": [16, 8, 8],
        "max_resolution": [16, 16],
        "llama_layers": [0, 1, 1, 1],
    },
    vae=_VAE
    | {"block_out_channels": [16, 16, 32, 32], "layers_per_block": 1, "norm_num_groups": 8},
    encoders={
        **{
            clip.name: {
                "vocab_size": 1536,
                "hidden_size": 32,
                "intermediate_size": 64,
                "projection_dim": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "max_position_embeddings": 128,
                "bos_token_id": 0,
                "eos_token_id": 1,
            }
            for clip in (CLIP_L, CLIP_G)
        },
        T5.name: _T5
        | {
            "vocab_size": 1536,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_heads": 4,
        },
        LLAMA.name: {
            "vocab_size": 1536,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
        },
    },
    side=128,
    steps=3,
    picture_steps={Variant.FULL: 20, Variant.DEV: 3, Variant.FAST: 2},
    calls=5,
    matrix=256,
    copied_bytes=2**20,
)

SIZES = {size.name: size for size in (FULL, SMALL)}
