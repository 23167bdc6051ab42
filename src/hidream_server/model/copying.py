"""Copies many tensors at once: by several threads, to an accelerator by way of pinned memory.

Knows neither files nor models: a source is whatever can be read into memory of the host.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue
from typing import Any, Protocol

import torch
from torch import Tensor

#: What is copied as one. Long enough for a thread, a disk and a bus to be busy with.
PIECE_BYTES = 16 * 2**20
#: They are faster than a bus; more of them would only take pinned memory.
_MOST_THREADS = 8
#: A thread fills one while the device reads the other.
_BUFFERS_PER_THREAD = 2


class Source(Protocol):
    """A tensor that is somewhere else."""

    def read(self, part: tuple[slice, ...], into: Tensor) -> None:
        """Copy a part, a slice for each dimension, into a tensor of its shape on the host."""


@dataclass(frozen=True, slots=True)
class HostTensor:
    """A tensor that is in the host's memory, or seems so, being a file's mapping."""

    tensor: Tensor

    def read(self, part: tuple[slice, ...], into: Tensor) -> None:
        into.copy_(self.tensor[part])


@dataclass(frozen=True, slots=True)
class Copy:
    """A part of a source, one slice for each dimension, and where it goes: of the same shape."""

    source: Source
    part: tuple[slice, ...]
    target: Tensor

    @classmethod
    def whole(cls, source: Tensor, target: Tensor) -> "Copy":
        return cls(HostTensor(source), tuple(slice(0, length) for length in source.shape), target)

    def pieces(self) -> Iterator["Copy"]:
        """Cut along the first dimension: what is contiguous remains so."""
        if self.target.nbytes <= PIECE_BYTES:
            yield self
            return
        first, *others = self.part
        start = first.start
        row_bytes = self.target.nbytes // len(self.target)
        for target in self.target.split(max(1, PIECE_BYTES // row_bytes)):
            yield Copy(self.source, (slice(start, start + len(target)), *others), target)
            start += len(target)

    def read(self, into: Tensor) -> None:
        self.source.read(self.part, into)


def copy_all(copies: Iterable[Copy], device: torch.device, processes: int = 1) -> None:
    """Make the copies, in about this order, whose targets are on a device.

    All has arrived when this returns. So many processes do so at the same time, and share the
    cores. On an accelerator at most 16 buffers of PIECE_BYTES, or of a row if that is longer, are
    allocated on the host beside what is there. Raises what reading a source, and torch, raise.
    """
    pieces = list(chain.from_iterable(copy.pieces() for copy in copies))
    threads = _threads(processes)
    if not _is_accelerator(device):
        _run(lambda piece: piece.read(piece.target), pieces, threads, _use_one_core)
        return
    count = min(threads * _BUFFERS_PER_THREAD, len(pieces))
    longest = max((piece.target.nbytes for piece in pieces), default=0)
    staging = Staging(device, count, longest)
    _run(staging.copy, pieces, threads, staging.begin)
    staging.wait()


def _threads(processes: int) -> int:
    """Return how many threads fill a process's share of the cores."""
    return max(1, min(len(os.sched_getaffinity(0)) // processes, _MOST_THREADS))


def _use_one_core() -> None:
    """Let torch not cut what this thread copies among threads of its own.

    Until somebody sets it again, this is also what threads to come begin with.
    """
    torch.set_num_threads(1)


def _is_accelerator(device: torch.device) -> bool:
    found = torch.accelerator.current_accelerator()
    return found is not None and found.type == device.type


def _run(
    copy: Callable[[Copy], None], pieces: list[Copy], threads: int, begin: Callable[[], None]
) -> None:
    """Copy the pieces in their order, so many at a time; `begin` is the first thing of a thread."""
    waiting = iter(pieces)

    def work() -> None:
        try:
            for piece in waiting:
                copy(piece)
        except BaseException:
            # Nobody begins what is left.
            deque(waiting, maxlen=0)
            raise

    # Asked first: a thread that has not used them yet would begin with what another one sets.
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "copying", begin) as pool:
            for done in [pool.submit(work) for _ in range(threads)]:
                done.result()
    finally:
        torch.set_num_threads(cores)


class _Buffer:
    """Pinned memory, and the event after which the device has read it."""

    def __init__(self, size: int) -> None:
        self.memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self.read: Any = None

    def wait(self) -> None:
        if self.read is not None:
            self.read.synchronize()


class Staging:
    """Pinned buffers by way of which tensors get onto an accelerator, for any number of threads.

    A buffer is used again once the device has read it.
    """

    def __init__(self, device: torch.device, count: int, size: int) -> None:
        self._device = device
        self._module = torch.get_device_module(device)
        self._buffers = [_Buffer(size) for _ in range(count)]
        #: Those that no thread fills; the device may still read them, the first one least likely.
        self._free: SimpleQueue[_Buffer] = SimpleQueue()
        for buffer in self._buffers:
            self._free.put(buffer)

    def begin(self) -> None:
        """Make this the device of the current thread; each thread begins with the first one."""
        _use_one_core()
        self._module.set_device(self._device)

    def copy(self, piece: Copy) -> None:
        """Read a piece, in its target's dtype, and send it; it arrives later."""
        target = piece.target
        buffer = self._free.get()
        try:
            buffer.wait()
            staged = buffer.memory[: target.nbytes].view(target.dtype).view(target.shape)
            piece.read(staged)
            target.copy_(staged, non_blocking=True)
            # The stream of the copy, and of whatever will be computed with it.
            buffer.read = self._module.current_stream(self._device).record_event()
        finally:
            self._free.put(buffer)

    def wait(self) -> None:
        """Wait until everything that was sent has arrived."""
        for buffer in self._buffers:
            buffer.wait()
