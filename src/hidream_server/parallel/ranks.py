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

    def all_reduce(self, part: Tensor) -> Tensor:
        """Return the sum of every rank's tensor; `part` may be overwritten."""
        ...

    def all_gather(self, part: Tensor) -> list[Tensor]:
        """Return every rank's tensor, in order; all have one shape."""
        ...

    def all_to_all(self, parts: list[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Send parts[r] to rank r; return what each rank sent here, of the given shapes."""
        ...

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        """Return the tensor of one of the ranks; what the others pass may be overwritten."""
        ...

    def close(self) -> None:
        """Leave the group for good."""
        ...


class Alone:
    """An axis of one rank: nothing to say, nobody to say it to."""

    size, index, sent_bytes = 1, 0, 0

    def all_reduce(self, part: Tensor) -> Tensor:
        return part

    def all_gather(self, part: Tensor) -> list[Tensor]:
        return [part]

    def all_to_all(self, parts: list[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        return parts

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        return tensor

    def close(self) -> None:
        pass


#: What ranks say to each other is between what is compiled, not in it.
_never_compiled = torch.compiler.disable


class ProcessRanks:
    """Ranks in processes of their own, joined by a torch process group; counts what it sends."""

    def __init__(self, group: dist.ProcessGroup, ranks: list[int]) -> None:
        self._group = group
        self._ranks = ranks
        self.size = len(ranks)
        self.index = ranks.index(dist.get_rank())
        self.sent_bytes = 0

    @_never_compiled
    def all_reduce(self, part: Tensor) -> Tensor:
        self.sent_bytes += 2 * part.nbytes * (self.size - 1) // self.size
        part = part.contiguous()
        dist.all_reduce(part, group=self._group)
        return part

    @_never_compiled
    def all_gather(self, part: Tensor) -> list[Tensor]:
        self.sent_bytes += part.nbytes * (self.size - 1)
        everything = part.new_empty((self.size, *part.shape))
        dist.all_gather(list(everything.unbind()), part.contiguous(), group=self._group)
        return list(everything.unbind())

    @_never_compiled
    def all_to_all(self, parts: list[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        self.sent_bytes += sum(part.nbytes for n, part in enumerate(parts) if n != self.index)
        sizes = [torch.Size(shape).numel() for shape in shapes]
        sent = torch.cat([part.reshape(-1) for part in parts])
        received = sent.new_empty(sum(sizes))
        dist.all_to_all_single(
            received, sent, sizes, [part.numel() for part in parts], group=self._group
        )
        pieces = received.split(sizes)
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    @_never_compiled
    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        self.sent_bytes += tensor.nbytes if self.index == source else 0
        tensor = tensor.contiguous()
        dist.broadcast(tensor, src=self._ranks[source], group=self._group)
        return tensor

    def close(self) -> None:
        """Give back what the group holds on the device; all of its ranks do so together."""
        dist.destroy_process_group(self._group)


def join_by_host(ranks: list[int]) -> Ranks:
    """Return a group of these for tensors on the CPU; every process of the world asks for it."""
    group = dist.new_group(ranks, backend="gloo")
    return ProcessRanks(group, ranks) if dist.get_rank() in ranks else Alone()


class Joiner:
    """Makes the groups of a layout; axes along which the same ranks lie have one in common."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        #: None for groups of others.
        self._made: dict[tuple[int, ...], ProcessRanks | None] = {}

    def join(self, *axes: str) -> Ranks:
        """Return this rank's group along some axes together; all ranks ask in the same order."""
        mine: Ranks = Alone()
        for ranks in self._layout.groups(*axes):
            if len(ranks) > 1:
                mine = self._group(ranks) or mine
        return mine

    def _group(self, ranks: list[int]) -> ProcessRanks | None:
        if tuple(ranks) not in self._made:
            group = dist.new_group(ranks)
            member = dist.get_rank() in ranks
            self._made[tuple(ranks)] = ProcessRanks(group, ranks) if member else None
        return self._made[tuple(ranks)]
