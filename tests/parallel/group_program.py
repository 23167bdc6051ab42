"""A real gloo group of processes that paint tasks with the demo model.

Arguments: a folder, and layouts; under each layout as many ranks as it has paint every task, and
leave there their latents, the pictures, and how many bytes of weights they hold. After a name that
ends with ~ blocks multiply in fp8, and no step is reused; after one that ends with + they are
compiled, and what is traced is run as it is. Both paint some of the tasks.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.devices.cpu import CPU
from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.reading import describe
from hidream_server.parallel.place import Place, take_place
from hidream_server.worker.assembly import assemble
from hidream_server.worker.device import open_device
from tests.parallel.tasks import SOME, TASKS, TOLERANCE


def paint(place: Place, how: str, folder: Path) -> None:
    description, device = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH), open_device(CPU, 0)
    fp8 = "~" in how
    lossy = {"step_cache": 0.0 if fp8 else TOLERANCE, "fp8": fp8}
    runner = assemble(description, place, device, CPU.mixture, 2**20, **lossy)
    if "+" in how:
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        runner._network.compile_blocks("eager")
    folder.mkdir(exist_ok=True)
    for name in SOME.get(how, TASKS):
        task = TASKS[name]
        for run in runner.begin(task):
            while not run.finished:
                # Each rank by its own numbers, which are equal; a server's do as rank 0 says.
                if run.reuses_next:
                    runner.reuse(run)
                else:
                    runner.step([run])
            # Zero of those that may be would prove nothing.
            assert run.reused_steps != 0
            np.save(folder / f"latents-{name}-{place.rank}.npy", run.latents.numpy())
            if place.rank == 0:
                np.save(folder / f"picture-{name}.npy", runner.decode(run))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    (folder / f"graphs-{place.rank}").write_text(str(graphs))
    held = runner.weight_bytes()
    (folder / f"bytes-{place.rank}.json").write_text(json.dumps(held))


def work(rank: int, ranks: int, folder: Path, names: list[str]) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks
    )
    for name in names:
        layout = parse(name)
        # Groups are made by every process of the world, also by those with no place in them.
        place = take_place(layout, rank)
        if place.rank < layout.ranks:
            paint(place, name.removeprefix(str(layout)), folder / name)
        dist.barrier()
    dist.destroy_process_group()


def parse(name: str) -> Layout:
    return Layout.parse(name.rstrip("+~"))


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    ranks = max(parse(name).ranks for name in names)
    # Forked, so that torch is imported once; nothing has made a thread yet.
    start_processes(work, (ranks, folder, names), ranks, start_method="fork")


main()
