"""Loads what a rank holds under a layout, and puts it together as a model runner."""

from collections.abc import Collection

from hidream_server.layouts.placement import place_components
from hidream_server.model.loading import load_model
from hidream_server.model_directory.components import TRANSFORMER
from hidream_server.model_directory.description import ModelDescription
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.place import Place
from hidream_server.parallel.spreading import Spread
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
) -> ModelRunner:
    """Load this rank's part; all ranks do so together. Raises what the libraries raise.

    `offloaded` names text encoders that stay in the host's memory between prompts; `compiled` asks
    for a network whose blocks are compiled in the first steps; `step_cache` is a tolerance, as for
    `ModelRunner`.
    """
    transformer = description.component(TRANSFORMER.name)
    others = [part for part in description.components if part.name != TRANSFORMER.name]
    owners = place_components({part.name: part.parameters for part in others}, place.layout.ranks)
    where = (device.torch_device, device.dtype)
    mine = {name for name, rank in owners.items() if rank == place.rank}
    network = load_network(transformer.path, transformer.files, place, *where, mixture)
    if compiled:
        network.compile_blocks()
    return ModelRunner(
        network,
        load_model(description, *where, mine, offloaded),
        Spread(owners, place.world, *where),
        description,
        device,
        prompt_cache_bytes,
        together=place.layout.ranks > 1,
        step_cache=step_cache,
    )
