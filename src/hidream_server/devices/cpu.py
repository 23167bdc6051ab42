"""The CPU: always there, computes in fp32 because 16-bit is slow on most processors."""

import os
from collections.abc import Mapping, Sequence

from hidream_server.devices.device import DeviceKind


def _count() -> int:
    return len(os.sched_getaffinity(0))


def _environment(devices: Sequence[int]) -> Mapping[str, str]:
    """Share the cores among the ranks, unless the user has; torchrun would give each one thread."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, _count() // len(devices)))}


CPU = DeviceKind(
    name="cpu",
    backend="gloo",
    extension=None,
    dtype="float32",
    dtype_bytes=4,
    count=_count,
    obstacle=lambda: None,
    environment=_environment,
)
