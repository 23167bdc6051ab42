"""A rank's device, through torch's generic interface.

Knows the device by the names it is given; which devices exist is not its business.
"""

import importlib
import resource
from dataclasses import dataclass

import torch

from hidream_server.devices.device import DeviceKind


@dataclass(frozen=True, slots=True)
class RankDevice:
    """The device that one rank computes on."""

    torch_device: torch.device
    dtype: torch.dtype
    is_accelerator: bool

    def memory_bytes(self) -> int:
        """Return what is allocated on the device; on the CPU the most this process ever held."""
        if not self.is_accelerator:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return int(torch.get_device_module(self.torch_device).memory_allocated())

    def peak_memory_bytes(self) -> int:
        """Return the most that this process ever held: on the device, or on the CPU in all."""
        if not self.is_accelerator:
            return self.memory_bytes()
        module = torch.get_device_module(self.torch_device)
        # Named, because it is asked in a thread that has not taken the device.
        return int(module.max_memory_allocated(self.torch_device))

    def take(self) -> None:
        """Make this the device of the current thread; each thread begins with the first one."""
        if self.is_accelerator:
            torch.get_device_module(self.torch_device).set_device(self.torch_device)

    def synchronize(self) -> None:
        """Wait until everything that was started on the device is done."""
        if self.is_accelerator:
            torch.get_device_module(self.torch_device).synchronize(self.torch_device)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Say whether an error means that there was no room; the device is well then."""
        return isinstance(error, torch.OutOfMemoryError) or any(
            words in str(error) for words in ("out of memory", "can't allocate memory")
        )

    def free_cache(self) -> None:
        """Give back what the allocator keeps for later, so that it does not lie in pieces."""
        if self.is_accelerator:
            torch.get_device_module(self.torch_device).empty_cache()

    def check(self) -> None:
        """Compute something small; a device in a broken state raises, as it would ever after."""
        if torch.ones(1, device=self.torch_device).add_(1).item() != 2:
            raise RuntimeError("The device computes wrong sums.")


def open_device(kind: DeviceKind, local_rank: int) -> RankDevice:
    """Return this rank's device, ready for use; raises what torch raises."""
    if kind.extension is not None:
        importlib.import_module(kind.extension)
    device = torch.device(kind.name, local_rank) if kind.is_accelerator else torch.device(kind.name)
    opened = RankDevice(device, getattr(torch, kind.dtype), kind.is_accelerator)
    opened.take()
    return opened
