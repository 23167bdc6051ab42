"""A device whose copies arrive late: a stand-in for torch's names of an accelerator, on the CPU."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

#: What the stand-in is asked by its user; torch's own devices have all of it.
_NAMES = ("set_device", "current_stream")


class Event:
    """What was sent before it has arrived once it was waited for."""

    def __init__(self, card: "LateCard", number: int) -> None:
        self._card, self._number = card, number

    def synchronize(self) -> None:
        self._card.arrive(self._number)


class LateCard:
    """Its one stream runs only when it is waited for, and no further than it must."""

    def __init__(self) -> None:
        #: Bytes of each pinned allocation.
        self.pinned: list[int] = []
        #: Threads that have taken the device.
        self.takers: set[int] = set()
        self._sent: list[Callable[[], object]] = []
        self._arrived = 0
        self._lock = threading.Lock()

    @property
    def on_its_way(self) -> int:
        """How many copies have been sent and did not arrive."""
        return len(self._sent) - self._arrived

    def set_device(self, _device: torch.device) -> None:
        self.takers.add(threading.get_ident())

    def current_stream(self, _device: torch.device) -> "LateCard":
        return self

    def record_event(self) -> Event:
        with self._lock:
            return Event(self, len(self._sent))

    def send(self, copy: Callable[[], object]) -> None:
        assert threading.get_ident() in self.takers
        with self._lock:
            self._sent.append(copy)

    def arrive(self, number: int) -> None:
        with self._lock:
            for copy in self._sent[self._arrived : number]:
                copy()
            self._arrived = max(self._arrived, number)


def put_late_card(patch: pytest.MonkeyPatch) -> LateCard:
    """Make the CPU such a device, with pinned memory, until the patch is undone."""
    card, empty, copy = LateCard(), torch.empty, Tensor.copy_
    assert all(hasattr(torch.cuda, name) for name in _NAMES)

    def allocate(*size: object, pin_memory: bool = False, **options: object) -> Tensor:
        made = empty(*size, **options)
        if pin_memory:
            card.pinned.append(made.nbytes)
        return made

    def copy_late(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        if non_blocking:
            card.send(lambda: copy(target, source))
            return target
        return copy(target, source)

    patch.setattr(torch, "empty", allocate)
    patch.setattr(Tensor, "copy_", copy_late)
    patch.setattr(torch, "get_device_module", lambda _device: card)
    patch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cpu"))
    return card
