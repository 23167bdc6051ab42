"""Counts how often the host waits for the device."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

#: What makes the host wait for an accelerator, by the names of torch's functions.
_WAITING = {"bincount", "cpu", "item", "masked_select", "nonzero", "tolist", "unique"}
#: The same for what Python asks of a tensor where it wants a number.
_WAITING |= {"__bool__", "__float__", "__index__", "__int__"}


class _Calls(TorchFunctionMode):
    """Counts calls of those functions, also where there is nothing to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += getattr(func, "__name__", "") in _WAITING
        return func(*args, **(kwargs or {}))


def count_waits(device: torch.device, call: Callable[[], object]) -> int:
    """Return how often a call makes the host wait: CUDA says; elsewhere calls are counted."""
    if device.type == "cuda":
        return _cuda_waits(call)
    with _Calls() as calls:
        call()
    return calls.count


def _cuda_waits(call: Callable[[], object]) -> int:
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("called a synchronizing" in str(warning.message) for warning in said)
