"""Opens a rank's device through torch's generic interface.

Knows the device by the names it is given; which devices exist is not its business.
"""

import importlib
import resource

import torch

from hidream_server.devices.device import DeviceKind


def open_device(kind: DeviceKind, local_rank: int) -> torch.device:
    """Return this rank's device, ready for use; raises what torch raises."""
    if kind.extension is not None:
        importlib.import_module(kind.extension)
    if kind.name == "cpu":
        return torch.device("cpu")
    device = torch.device(kind.name, local_rank)
    torch.get_device_module(device).set_device(device)
    return device


def memory_bytes(device: torch.device) -> int:
    """Return what is allocated on the device; on the CPU the most this process ever held."""
    if device.type == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(torch.get_device_module(device).memory_allocated(device))
