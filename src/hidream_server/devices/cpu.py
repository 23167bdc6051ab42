"""The CPU: always there, computes in fp32 because 16-bit is slow on most processors."""

import os
from collections.abc import Mapping, Sequence

from hidream_server.devices.device import DeviceKind


def _count() -> int:
    return len(os.sched_getaffinity(0))


def _environment(_devices: Sequence[int], in_use: int) -> Mapping[str, str]:
    """Share the cores among all ranks, and sleep while waiting for another thread.

    torchrun would give each rank one thread only. A thread that spins instead of sleeping makes
    a step forty times slower as soon as anything else wants its core. What the user exported wins.
    """
    ours = {
        "OMP_NUM_THREADS": str(max(1, _count() // in_use)),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    return {name: os.environ.get(name, value) for name, value in ours.items()}


#: More ranks than cores are slow, but they show what many devices would do.
_MOST_RANKS = 64

CPU = DeviceKind(
    name="cpu",
    is_accelerator=False,
    extension=None,
    dtype="float32",
    dtype_bytes=4,
    backend="gloo",
    mixture="loop",
    count=_count,
    obstacle=lambda: None,
    environment=_environment,
    niceness=10,
    sharing=_MOST_RANKS,
)
