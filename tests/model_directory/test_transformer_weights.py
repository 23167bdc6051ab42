"""The table of transformer weights against diffusers' real class, built without memory."""

import json
import math

import msgspec
import pytest

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.model_directory.configs import TransformerConfig
from hidream_server.model_directory.transformer_weights import expected_weights

#: transformer/config.json of the published HiDream-I1.
PUBLISHED = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 16,
    "num_single_layers": 32,
    "attention_head_dim": 128,
    "num_attention_heads": 20,
    "caption_channels": [4096, 4096],
    "text_emb_dim": 2048,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "axes_dims_rope": [64, 32, 32],
    "max_resolution": [128, 128],
    "llama_layers": [*range(32), *[31] * 16],
}


def read(config: dict[str, object]) -> TransformerConfig:
    return msgspec.convert(config, TransformerConfig)


def demo_config() -> dict[str, object]:
    return json.loads((DEMO_MODEL_PATH / "transformer" / "config.json").read_text())


#: Every number differs from every other, so that no two can be mistaken for each other.
ODD = PUBLISHED | {
    "patch_size": 3,
    "in_channels": 5,
    "out_channels": 7,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 3,
    "caption_channels": [11, 13],
    "text_emb_dim": 17,
    "num_routed_experts": 6,
    "axes_dims_rope": [4, 2, 2],
    "llama_layers": [0, 1, 2],
}


@pytest.mark.parametrize(
    "config",
    [demo_config(), PUBLISHED, ODD, ODD | {"out_channels": None}],
    ids=["demo", "published", "odd", "no out_channels"],
)
def test_the_table_is_exactly_what_the_class_has(config):
    import torch
    from diffusers import HiDreamImageTransformer2DModel

    with torch.device("meta"):
        model = HiDreamImageTransformer2DModel.from_config(config)
    real = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert expected_weights(read(config)) == real


def test_the_published_model_has_17_billion_parameters():
    total = sum(math.prod(shape) for shape in expected_weights(read(PUBLISHED)).values())
    assert total == 17_105_733_184
