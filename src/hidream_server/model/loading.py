"""Loads what is around the network: autoencoder, text encoders, tokenizers, sampler.

The published directory lists a text_encoder_4 that it does not hold, so the stock pipeline's
from_pretrained cannot load it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import Module
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5EncoderModel,
    T5Tokenizer,
)

from hidream_server.model.copying import Copy, copy_all
from hidream_server.model.offloading import OffloadedModule
from hidream_server.model_directory.components import CLIP_G, CLIP_L, LLAMA, T5, VAE
from hidream_server.model_directory.description import ModelDescription

#: For each text encoder its class, its tokenizer's class and the tokenizer's folder. The Llama is
#: loaded without its lm_head, whose 1 GB would never be used.
_TEXT_ENCODERS: dict[str, tuple[Any, Any, str]] = {
    CLIP_L.name: (CLIPTextModelWithProjection, CLIPTokenizer, "tokenizer"),
    CLIP_G.name: (CLIPTextModelWithProjection, CLIPTokenizer, "tokenizer_2"),
    T5.name: (T5EncoderModel, T5Tokenizer, "tokenizer_3"),
    LLAMA.name: (LlamaModel, PreTrainedTokenizerFast, "tokenizer_4"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """The components that were asked for, ready to compute on their device."""

    vae: AutoencoderKL | None
    #: By component name: the tokenizer and the encoder.
    text_encoders: dict[str, tuple[Any, Module | OffloadedModule]]
    #: Returns a fresh sampler object, as the checkpoint configures it.
    new_scheduler: Callable[[], Any]


def load_model(
    description: ModelDescription,
    device: torch.device,
    dtype: torch.dtype,
    names: Collection[str],
    offloaded: Collection[str] = (),
    processes: int = 1,
) -> LoadedModel:
    """Load the named components; raises what diffusers and transformers raise.

    Those that are `offloaded` stay in the host's memory and visit the device for each call. So
    many processes load at the same time.
    """
    paths = {component.name: component.path for component in description.components}

    def load(cls: Any, name: str) -> Any:
        path = paths[name]
        module = cls.from_pretrained(path, dtype=dtype, local_files_only=True).eval()
        if name in offloaded:
            return OffloadedModule(module, device)
        return module if device.type == "cpu" else _move(module, device, processes)

    return LoadedModel(
        vae=load(AutoencoderKL, VAE.name) if VAE.name in names else None,
        text_encoders={
            name: (_tokenizer(tokenizer, description, name, folder), load(encoder, name))
            for name, (encoder, tokenizer, folder) in _TEXT_ENCODERS.items()
            if name in names
        },
        new_scheduler=_scheduler_factory(description),
    )


def _move(module: Module, device: torch.device, processes: int) -> Module:
    """Move a module as its `to` would; transformers has only mapped its files so far."""
    sources = _tensors(module)
    module.to_empty(device=device)
    copy_all(map(Copy.whole, sources, _tensors(module)), device, processes)
    return module


def _tensors(module: Module) -> list[Tensor]:
    """Return parameters and buffers; what is shared as often as it is used."""
    every = (module.named_parameters, module.named_buffers)
    return [tensor.detach() for named in every for _, tensor in named(remove_duplicate=False)]


def _tokenizer(cls: Any, description: ModelDescription, name: str, folder: str) -> Any:
    path: Path = description.path / folder
    if name == LLAMA.name and description.extra_path is not None:
        path = description.extra_path
    tokenizer = cls.from_pretrained(path, local_files_only=True)
    if name == LLAMA.name:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _scheduler_factory(description: ModelDescription) -> Callable[[], Any]:
    cls = getattr(diffusers, description.sampler)
    config = cls.load_config(description.path / "scheduler", local_files_only=True)
    return lambda: cls.from_config(config)
