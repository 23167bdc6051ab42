"""Loads a rank's part of the transformer, reading nothing else of the files."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor

from hidream_server.layouts.layout import Layout
from hidream_server.layouts.sharding import local_part
from hidream_server.model.captions import take_captions
from hidream_server.model.copying import Copy, copy_all
from hidream_server.model.mixture import MIXTURES
from hidream_server.model.positions import remember_positions
from hidream_server.model.weight_file import open_weights
from hidream_server.parallel.network import Network
from hidream_server.parallel.place import Place
from hidream_server.parallel.sharding import shard

_EXPERT = re.compile(r"(.*\.ff_i\.experts)\.(\d+)\.(w[123])\.weight$")


def load_network(
    folder: Path,
    files: Iterable[Path],
    place: Place,
    device: torch.device,
    dtype: torch.dtype,
    mixture: str,
) -> Network:
    """Return the network whose part at `place` is on this device; raises what safetensors raises.

    Nothing is allocated that this rank does not keep, but what `copy_all` takes meanwhile. All
    ranks load at the same time.
    """
    config = HiDreamImageTransformer2DModel.load_config(folder, local_files_only=True)
    with torch.device("meta"):
        transformer = HiDreamImageTransformer2DModel.from_config(config).eval()
    attention = shard(transformer, place, MIXTURES[mixture])
    # torch's own `to`: that of diffusers warns of parts to be kept in fp32, which this has not.
    torch.nn.Module.to(transformer, dtype=dtype)
    transformer.to_empty(device=device)
    for path in files:
        _read(transformer, path, place.layout, place.rank)
    captions, positions = take_captions(transformer), remember_positions(transformer)
    return Network(transformer, captions, positions, place, attention)


def _read(
    transformer: HiDreamImageTransformer2DModel, path: Path, layout: Layout, rank: int
) -> None:
    """Copy this rank's part of every tensor of a file into its place."""
    experts = transformer.config.num_routed_experts
    with open_weights(path) as tensors:
        copies = [
            Copy(tensor, part, _destination(transformer, tensor.name))
            for tensor in tensors
            if (part := local_part(tensor.name, tensor.shape, experts, layout, rank)) is not None
        ]
        copy_all(copies, transformer.device, layout.ranks)


def _destination(transformer: HiDreamImageTransformer2DModel, name: str) -> Tensor:
    if match := _EXPERT.match(name):
        experts = transformer.get_submodule(match[1])
        return experts.matrix(int(match[2]), match[3])
    return transformer.get_parameter(name).data
