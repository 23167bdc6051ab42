"""A module that waits in the host's memory, and is on the device only while it is called."""

from itertools import chain

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module


class OffloadedModule:
    """Calls a module on a device with weights that otherwise are in the host's memory.

    What it takes of the device's memory is free again after each call; the price is one transfer
    of the weights.
    """

    def __init__(self, module: Module, device: torch.device) -> None:
        self._module = module
        self._device = device

    def __call__(self, *arguments: Tensor, **options: object) -> object:
        """Return what the module returns, on the device; `arguments` are expected there too."""
        waiting = chain(self._module.named_parameters(), self._module.named_buffers())
        there = {name: tensor.to(self._device, non_blocking=True) for name, tensor in waiting}
        return functional_call(self._module, there, arguments, options)
