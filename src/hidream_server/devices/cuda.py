"""NVIDIA GPUs."""

import importlib.util
import os
import re
import runpy
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from hidream_server.devices.device import DeviceKind
from hidream_server.devices.tools import ask

#: The driver shows one folder for each GPU here.
DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")


#: Major compute capability for which torch has grouped products of fp8 with a scale for each row.
_FP8_CAPABILITY = 9

VISIBLE = "CUDA_VISIBLE_DEVICES"


def _devices() -> list[str]:
    """Return CUDA's names of the devices that may be used: all, or those the user exported."""
    there = len(list(DRIVER_FOLDER.glob("*"))) if DRIVER_FOLDER.is_dir() else 0
    exported = os.environ.get(VISIBLE)
    if exported is None:
        return [str(number) for number in range(there)]
    # CUDA's own rule: the list ends at the first name that is no device, like -1.
    names = (name.strip() for name in exported.split(","))
    return list(takewhile(lambda name: name and not name.startswith("-"), names))[:there]


def _count() -> int:
    return len(_devices())


def _obstacle() -> str | None:
    """Read torch's build without importing torch, which takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "PyTorch is not installed"
    build = runpy.run_path(str(Path(spec.origin).parent / "version.py"))
    return None if build.get("cuda") else "this PyTorch is a build without CUDA"


def _environment(devices: Sequence[int], _in_use: int) -> Mapping[str, str]:
    """Device numbers count within what the user exported, as in any CUDA program."""
    names = _devices()
    visible = ",".join(names[device] for device in devices)
    # Numbers as nvidia-smi gives them; CUDA would number the fastest card first.
    order = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return {VISIBLE: visible, "CUDA_DEVICE_ORDER": order}


def _memory(devices: Sequence[int]) -> int | None:
    sizes = [int(size) * 2**20 for size in _query("memory.total", devices) if size.isdigit()]
    return min(sizes, default=None)


def _fp8_obstacle(devices: Sequence[int]) -> str | None:
    """Look for GPUs without products of fp8 that have a scale for each row."""
    for device, said in zip(devices, _query("compute_cap", devices), strict=False):
        found = re.fullmatch(r"(\d+)\.\d+", said.strip())
        if found and int(found[1]) != _FP8_CAPABILITY:
            return f"cuda {device} has compute capability {found[0]}, and it takes 9.0"
    return None


def _driver() -> str | None:
    said = ask("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "-i", "0")
    return said.strip() if said else None


def _complaints(devices: Sequence[int]) -> list[str]:
    counts = _query("ecc.errors.uncorrected.volatile.total", devices)
    return [
        f"nvidia-smi counts {count} uncorrected memory errors of cuda {device} since the start."
        for device, count in zip(devices, counts, strict=False)
        if count.isdigit() and count != "0"
    ]


def _query(field: str, devices: Sequence[int]) -> list[str]:
    """Ask nvidia-smi for a field of each device; its absence is no fault."""
    names = _devices()
    chosen = ",".join(names[device] for device in devices)
    said = ask(
        *("nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", "-i", chosen)
    )
    return (said or "").splitlines()


CUDA = DeviceKind(
    name="cuda",
    is_accelerator=True,
    extension=None,
    dtype="bfloat16",
    dtype_bytes=2,
    backend="nccl",
    mixture="grouped_mm",
    count=_count,
    obstacle=_obstacle,
    environment=_environment,
    memory=_memory,
    fp8_obstacle=_fp8_obstacle,
    driver=_driver,
    complaints=_complaints,
)
