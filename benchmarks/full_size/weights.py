"""Random weights, made on the device, and the modules that are given them.

Every way to run the transformer is given the same tensors, so that all of them together take the
memory of one.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL, HiDreamImageTransformer2DModel
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    LlamaConfig,
    LlamaModel,
    T5Config,
    T5EncoderModel,
)

from benchmarks.full_size.sizes import Config, Size
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.model.loading import LoadedModel, load_model
from hidream_server.model.mixture import MIXTURES
from hidream_server.model.moe import RoutedExperts
from hidream_server.model_directory.components import CLIP_G, CLIP_L, LLAMA, T5, TRANSFORMER, VAE
from hidream_server.model_directory.reading import describe
from hidream_server.model_directory.transformer_weights import expected_weights
from hidream_server.parallel.place import alone
from hidream_server.parallel.sharding import shard

#: By the names of diffusers' class and of the engine's; an expert's are views of the stacked ones.
Weights = Mapping[str, Tensor]

_ENCODERS: dict[str, tuple[Any, Any]] = {
    CLIP_L.name: (CLIPTextModelWithProjection, CLIPTextConfig),
    CLIP_G.name: (CLIPTextModelWithProjection, CLIPTextConfig),
    T5.name: (T5EncoderModel, T5Config),
    LLAMA.name: (LlamaModel, LlamaConfig),
}


def empty_transformer(config: Config) -> HiDreamImageTransformer2DModel:
    """Return diffusers' class on the meta device."""
    with torch.device("meta"):
        return HiDreamImageTransformer2DModel.from_config(dict(config)).eval()


@torch.no_grad()
def make_weights(config: Config, device: torch.device, dtype: torch.dtype) -> Weights:
    """Return random weights of a transformer."""
    transformer = empty_transformer(config)
    shard(transformer, alone(), MIXTURES["loop"])
    nn.Module.to(transformer, dtype=dtype)
    transformer.to_empty(device=device)
    torch.manual_seed(0)
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_(False)
        _randomise(name, parameter)
    weights = dict(transformer.named_parameters())
    for path, module in transformer.named_modules():
        if isinstance(module, RoutedExperts):
            weights |= {
                f"{path}.{expert}.{name}.weight": module.matrix(expert, name)
                for expert in range(module.count)
                for name in ("w1", "w2", "w3")
            }
    return weights


def _randomise(name: str, parameter: Tensor) -> None:
    """Fill with noise that neither grows nor fades from layer to layer; nothing is zero."""
    if parameter.ndim > 1:
        parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
    else:
        # Factors of norms, and biases.
        parameter.normal_(1.0 if name.endswith(".weight") else 0.0, 0.02)


def give(module: nn.Module, weights: Weights) -> None:
    """Let a module on the meta device use these weights, without a copy."""
    module.load_state_dict({name: weights[name] for name in module.state_dict()}, assign=True)
    module.requires_grad_(False)


@contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Let what is made inside be made there and of that dtype, as from_pretrained does."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def make_vae(size: Size, device: torch.device, dtype: torch.dtype) -> AutoencoderKL:
    with made_on(device, dtype):
        return AutoencoderKL.from_config(dict(size.vae)).eval().requires_grad_(False)


def make_encoder(size: Size, name: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    cls, config = _ENCODERS[name]
    with made_on(device, dtype):
        # The demo tokenizers' ids.
        return cls(config(**size.encoders[name])).eval().requires_grad_(False)


def make_components(size: Size, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Return random autoencoder and text encoders, with the demo model's tokenizers and sampler.

    Its vocabularies are smaller, so that every encoder knows the ids.
    """
    torch.manual_seed(1)
    demo = demo_parts()
    encoders = {
        name: (tokenizer, make_encoder(size, name, device, dtype))
        for name, (tokenizer, _) in demo.text_encoders.items()
    }
    return replace(demo, vae=make_vae(size, device, dtype), text_encoders=encoders)


def demo_parts() -> LoadedModel:
    """Return the demo model's tokenizers, with its encoders, and its sampler: UniPC as Full's."""
    description = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    return load_model(description, torch.device("cpu"), torch.float32, _ENCODERS)


def parameters(size: Size) -> dict[str, int]:
    """Return the number of parameters by component, without making any."""
    meta = torch.device("meta")
    modules = {VAE.name: make_vae(size, meta, torch.bfloat16)} | {
        name: make_encoder(size, name, meta, torch.bfloat16) for name in _ENCODERS
    }
    counts = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in modules.items()
    }
    shapes = expected_weights(size.network).values()
    return {TRANSFORMER.name: sum(torch.Size(shape).numel() for shape in shapes), **counts}
