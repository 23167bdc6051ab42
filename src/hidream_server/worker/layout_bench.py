"""Times a denoising step under one layout after the other; run by torchrun on all devices.

Takes a LayoutBench as JSON; rank 0 prints a LayoutTiming for each layout, one JSON line each.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor

from hidream_server.devices.choice import KINDS
from hidream_server.ipc.bench import LayoutBench, LayoutTiming
from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.components import TRANSFORMER
from hidream_server.model_directory.description import TEXT_TOKENS, ModelDescription
from hidream_server.model_directory.reading import describe
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.network import Network
from hidream_server.parallel.place import Place, take_place
from hidream_server.worker.broadcast import Broadcast
from hidream_server.worker.device import RankDevice, open_device


def main() -> None:
    bench = msgspec.json.decode(sys.argv[1], type=LayoutBench)
    kind = KINDS[bench.device_type]
    device = open_device(kind, int(os.environ["LOCAL_RANK"]))
    meeting: Broadcast[None] = Broadcast(kind.name, kind.backend)
    extra = None if bench.extra_model_path is None else Path(bench.extra_model_path)
    description = describe(Path(bench.model_path), extra)
    for name in bench.layouts:
        layout = Layout.parse(name)
        # Every process takes part in making the groups, also those without a place in them.
        place = take_place(layout, dist.get_rank())
        if place.rank < layout.ranks:
            timing = _time(bench, description, place, device, kind.mixture)
            if place.rank == 0:
                print(msgspec.json.encode(timing).decode(), flush=True)
            place.close()
        # Not on the devices, which would not wait until the others have loaded their part.
        meeting.wait_for_all()
    meeting.close()


def _time(
    bench: LayoutBench,
    description: ModelDescription,
    place: Place,
    device: RankDevice,
    mixture: str,
) -> LayoutTiming:
    component = description.component(TRANSFORMER.name)
    where = (device.torch_device, device.dtype)
    network = load_network(component.path, component.files, place, *where, mixture)
    seconds, sent = [], 0
    with torch.inference_mode():
        inputs = _inputs(bench, description, network, device)
        for step in range(1 + bench.steps):
            sent, start = place.sent_bytes, time.perf_counter()
            network(*inputs)
            device.synchronize()
            # The first step warms up.
            seconds += [time.perf_counter() - start] if step else []
    return LayoutTiming(
        layout=str(place.layout),
        step_s=statistics.median(seconds),
        weight_bytes=network.weight_bytes(),
        sent_bytes=place.sent_bytes - sent,
    )


def _inputs(
    bench: LayoutBench, description: ModelDescription, network: Network, device: RankDevice
) -> tuple[Any, ...]:
    """Return noise of the right shapes for a guided step; it takes as long whatever it paints."""
    config = description.transformer
    factor = description.size_multiple // network.config.patch_size
    t5_width, llama_width = config.caption_channels
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device.torch_device, device.dtype)

    size = (bench.height // factor, bench.width // factor)
    latents = torch.randn((1, network.config.in_channels, *size), generator=generator)
    text = network.project(
        noise(2, TEXT_TOKENS, t5_width),
        noise(max(config.llama_layers) + 1, 2, TEXT_TOKENS, llama_width),
    )
    return [latents] * 2, torch.full((2,), 500.0), *text, noise(2, config.text_emb_dim)


if __name__ == "__main__":
    main()
