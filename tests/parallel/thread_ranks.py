"""Ranks as threads of one process: the collectives of a group, in memory and in plain sight."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from hidream_server.layouts.layout import Layout
from hidream_server.parallel.place import Place
from hidream_server.parallel.ranks import Alone, Ranks

T = TypeVar("T")


class _Group:
    def __init__(self, size: int) -> None:
        self.board: list[object] = [None] * size
        self.barrier = threading.Barrier(size)


class ThreadRanks:
    sent_bytes = 0

    def __init__(self, group: _Group, index: int) -> None:
        self._group = group
        self.size, self.index = len(group.board), index

    def _post(self, value: object) -> list:
        """Return what every rank has posted."""
        self._group.barrier.wait(60)
        self._group.board[self.index] = value
        self._group.barrier.wait(60)
        return list(self._group.board)

    def all_reduce(self, part: Tensor) -> Tensor:
        return torch.stack(self._post(part)).sum(0)

    def all_gather(self, part: Tensor) -> list[Tensor]:
        return self._post(part)

    def all_to_all(self, parts: list[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        received = [sent[self.index] for sent in self._post(parts)]
        assert [tuple(tensor.shape) for tensor in received] == [tuple(shape) for shape in shapes]
        return received

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        return self._post(tensor)[source]

    def close(self) -> None:
        pass


def run_ranks(layout: Layout, work: Callable[[Place], T]) -> list[T]:
    """Return what each rank's thread made of its place; an error in one ends all."""
    axes = {
        "world": ("cfg", "sp", "tp", "ep"),
        "guidance": ("cfg",),
        "sequence": ("sp",),
        "tensor": ("tp",),
        "block": ("tp", "ep"),
    }
    places: list[dict[str, Ranks]] = [{} for _ in range(layout.ranks)]
    every: list[_Group] = []
    for name, along in axes.items():
        for ranks in layout.groups(*along):
            group = _Group(len(ranks))
            every.append(group)
            for index, rank in enumerate(ranks):
                places[rank][name] = ThreadRanks(group, index) if len(ranks) > 1 else Alone()

    def one(rank: int) -> T:
        try:
            return work(Place(layout=layout, rank=rank, **places[rank]))
        except BaseException:
            for group in every:
                group.barrier.abort()
            raise

    with ThreadPoolExecutor(layout.ranks) as pool:
        return list(pool.map(one, range(layout.ranks)))
