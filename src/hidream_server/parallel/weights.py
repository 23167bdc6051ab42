"""Loads a rank's part of the transformer, reading nothing else of the files."""

import re
from pathlib import Path

import torch
from diffusers import HiDreamImageTransformer2DModel
from safetensors import safe_open
from torch import Tensor

from hidream_server.layouts.layout import Layout
from hidream_server.layouts.sharding import local_part

_EXPERT = re.compile(r"(.*\.ff_i\.experts)\.(\d+)\.(w[123])\.weight$")


def load_weights(
    transformer: HiDreamImageTransformer2DModel, files: list[Path], layout: Layout, rank: int
) -> None:
    """Fill a cut transformer, whose parameters are on their device and of their dtype.

    Raises KeyError for a file without an expected tensor, and what safetensors raises.
    """
    experts = transformer.config.num_routed_experts
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensor = file.get_slice(name)
                part = local_part(name, tuple(tensor.get_shape()), experts, layout, rank)
                if part is not None:
                    _destination(transformer, name).copy_(tensor[part])


def _destination(transformer: HiDreamImageTransformer2DModel, name: str) -> Tensor:
    if match := _EXPERT.match(name):
        return transformer.get_submodule(match[1]).matrix(int(match[2]), match[3])
    return transformer.get_parameter(name).data


def materialise(
    transformer: HiDreamImageTransformer2DModel, device: torch.device, dtype: torch.dtype
) -> None:
    """Give a transformer on the meta device memory of its own, not yet filled."""
    transformer.to(dtype)
    transformer.to_empty(device=device)
