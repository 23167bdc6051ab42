"""Loads what a rank holds under a layout, and puts it together as a model runner."""

from collections.abc import Collection

import torch

from hidream_server.layouts.placement import place_components
from hidream_server.model.loading import load_model
from hidream_server.model_directory.components import TRANSFORMER
from hidream_server.model_directory.description import ModelDescription
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.place import Place
from hidream_server.parallel.ranks import Ranks
from hidream_server.parallel.spreading import Spread
from hidream_server.pipeline.sampling_device import sampling_device
from hidream_server.worker.device import RankDevice
from hidream_server.worker.model_runner import ModelRunner


def assemble(
    description: ModelDescription,
    place: Place,
    device: RankDevice,
    mixture: str,
    prompt_cache_bytes: int,
    offloaded: Collection[str] = (),
    compiled: bool = False,
    step_cache: float = 0.0,
    fp8: bool = False,
) -> ModelRunner:
    """Load this rank's part; all ranks do so together. Raises what the libraries raise.

    `offloaded` names text encoders that stay in the host's memory between prompts; `compiled` asks
    for a network whose blocks are compiled in the first steps; `step_cache` and `fp8` are as for
    `ModelRunner`.
    """
    transformer = description.component(TRANSFORMER.name)
    others = [part for part in description.components if part.name != TRANSFORMER.name]
    owners = place_components({part.name: part.parameters for part in others}, place.layout.ranks)
    where = (device.torch_device, device.dtype)
    mine = {name for name, rank in owners.items() if rank == place.rank}
    network = load_network(transformer.path, transformer.files, place, *where, mixture)
    if fp8:
        network.add_fp8()
    if compiled:
        network.compile_blocks()
    model = load_model(description, *where, mine, offloaded, place.layout.ranks)
    found = sampling_device(model.new_scheduler, device.torch_device, description.max_image_tokens)
    return ModelRunner(
        network,
        model,
        Spread(owners, place.world, *where),
        description,
        device,
        prompt_cache_bytes,
        agree(found, place.world),
        together=place.layout.ranks > 1,
        step_cache=step_cache,
        fp8=fp8,
    )


def agree(found: torch.device, ranks: Ranks) -> torch.device:
    """Return the device if every rank has found that its own can sample, and else the CPU.

    Their latents stay equal only where all compute alike.
    """
    cannot = ranks.all_reduce(torch.tensor([float(found.type == "cpu")]))
    return torch.device("cpu") if cannot.item() else found
