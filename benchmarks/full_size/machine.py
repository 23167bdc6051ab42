"""The device that is measured, and what must be known of machine and software to repeat it."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch

from hidream_server.devices.choice import KINDS
from hidream_server.devices.cpu import CPU
from hidream_server.devices.device import DeviceKind
from hidream_server.worker.device import RankDevice

_PACKAGES = ("torch", "torch-npu", "triton", "diffusers", "transformers", "safetensors")


class UnusableDeviceError(Exception):
    """The device cannot be measured; the text says why, and what to do."""


def choose_kind(name: str | None) -> DeviceKind:
    """Return the kind that was asked for, or what is there; raise UnusableDeviceError."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    there = CPU.name if found is None else found.type
    if name is None:
        return KINDS.get(there, CPU)
    if name not in (there, CPU.name):
        raise UnusableDeviceError(f"This torch finds no {name} here, only {there}.")
    return KINDS[name]


def about(device: RankDevice, kind: DeviceKind) -> dict[str, object]:
    """Return what a reader of the numbers must know."""
    return {
        "device": device_name(device),
        "driver": kind.driver() or "",
        "dtype": str(device.dtype).removeprefix("torch."),
        "cuda": torch.version.cuda or "",
        "python": sys.version.split()[0],
        "versions": _versions(),
        "commit": commit(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load average": round(os.getloadavg()[0], 2),
    }


def device_name(device: RankDevice) -> str:
    if not device.is_accelerator:
        return f"cpu ({platform.processor() or platform.machine()})"
    module = torch.get_device_module(device.torch_device)
    return str(module.get_device_name(device.torch_device))


def _versions() -> Mapping[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit that is checked out, and whether anything was changed; else nothing."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip()
