"""A bench at the small size on the CPU."""

from collections.abc import Callable

import pytest
import torch

from benchmarks.full_size.bench import Bench
from benchmarks.full_size.sizes import SMALL
from benchmarks.full_size.timing import Budget
from hidream_server.devices.cpu import CPU
from hidream_server.worker.device import RankDevice


@pytest.fixture(scope="session")
def new_bench() -> Callable[[torch.dtype], Bench]:
    def make(dtype: torch.dtype) -> Bench:
        device = RankDevice(torch.device("cpu"), dtype, is_accelerator=False)
        return Bench(SMALL, device, CPU, Budget(3600.0), rounds=1)

    return make


@pytest.fixture(scope="session")
def bench(new_bench) -> Bench:
    """In 32 bit, so that what should be equal nearly is."""
    return new_bench(torch.float32)
