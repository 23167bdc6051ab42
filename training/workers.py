"""Runs one function in several processes that train the same weights together.

Each process has one thread: on a few cores that beats one process of many threads.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def launch(work: Callable[..., None], processes: int, *arguments: object) -> None:
    """Call `work(rank, *arguments)` in every process and wait for all of them."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if processes == 1:
        torch.set_num_threads(1)
        work(0, *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "rendezvous")
        torch.multiprocessing.spawn(_enter, (work, processes, store, arguments), processes)


def _enter(rank: int, work: Callable[..., None], processes: int, store: str, arguments) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=processes)
    try:
        work(rank, *arguments)
    finally:
        dist.destroy_process_group()


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all processes."""
    if world() == 1:
        return
    values = list(tensors)
    flat = torch.cat([value.reshape(-1) for value in values])
    dist.all_reduce(flat)
    flat /= world()
    for value, mean in zip(values, flat.split([v.numel() for v in values]), strict=True):
        value.copy_(mean.view_as(value))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    with torch.no_grad():
        average([p.grad for p in parameters if p.grad is not None])
