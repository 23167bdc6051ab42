"""The ranks along one axis, and what they can say to each other.

Knows tensors and process groups; knows nothing of models.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from hidream_server.layouts.layout import Layout


class Ranks(Protocol):
    """Ranks along one axis; every method is called by all of them together."""

    size: int
    index: int
    #: What this rank has sent, by the usual ring algorithms.
    sent_bytes: int

    def sum(self, part: Tensor) -> Tensor:
        """Return the sum of every rank's tensor; `part` may be overwritten."""
        ...

    def gather(self, part: Tensor) -> list[Tensor]:
        """Return every rank's tensor, in order; all have one shape."""
        ...

    def exchange(self, parts: list[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Send parts[r] to rank r; return what each rank sent here, of the given shapes."""
        ...

    def share(self, tensor: Tensor, source: int = 0) -> Tensor:
        """Return the tensor of one of the ranks; what the others pass may be overwritten."""
        ...


class Alone:
    """An axis of one rank: nothing to say, nobody to say it to."""

    size, index, sent_bytes = 1, 0, 0

    def sum(self, part: Tensor) -> Tensor:
        return part

    def gather(self, part: Tensor) -> list[Tensor]:
        return [part]

    def exchange(self, parts: list[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        return parts

    def share(self, tensor: Tensor, source: int = 0) -> Tensor:
        return tensor


class ProcessRanks:
    """Ranks in processes of their own, joined by a torch process group; counts what it sends."""

    def __init__(self, group: dist.ProcessGroup, ranks: list[int]) -> None:
        self._group = group
        self._ranks = ranks
        self.size = len(ranks)
        self.index = ranks.index(dist.get_rank())
        self.sent_bytes = 0

    def sum(self, part: Tensor) -> Tensor:
        self.sent_bytes += 2 * part.nbytes * (self.size - 1) // self.size
        part = part.contiguous()
        dist.all_reduce(part, group=self._group)
        return part

    def gather(self, part: Tensor) -> list[Tensor]:
        self.sent_bytes += part.nbytes * (self.size - 1)
        everything = part.new_empty((self.size, *part.shape))
        dist.all_gather(list(everything.unbind()), part.contiguous(), group=self._group)
        return list(everything.unbind())

    def exchange(self, parts: list[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        self.sent_bytes += sum(part.nbytes for n, part in enumerate(parts) if n != self.index)
        sizes = [torch.Size(shape).numel() for shape in shapes]
        sent = torch.cat([part.reshape(-1) for part in parts])
        received = sent.new_empty(sum(sizes))
        dist.all_to_all_single(
            received, sent, sizes, [part.numel() for part in parts], group=self._group
        )
        pieces = received.split(sizes)
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def share(self, tensor: Tensor, source: int = 0) -> Tensor:
        self.sent_bytes += tensor.nbytes if self.index == source else 0
        tensor = tensor.contiguous()
        dist.broadcast(tensor, src=self._ranks[source], group=self._group)
        return tensor


def join(layout: Layout, *axes: str) -> Ranks:
    """Return this rank's group along some axes together; all ranks call it in the same order."""
    mine: Ranks = Alone()
    for ranks in layout.groups(*axes):
        if len(ranks) > 1:
            group = dist.new_group(ranks)
            if dist.get_rank() in ranks:
                mine = ProcessRanks(group, ranks)
    return mine
