"""Results that one rank computes and all need, like the text encoders' embeddings."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hidream_server.parallel.ranks import Ranks

_MOST_DIMENSIONS = 8


class Spread:
    """Lets the owner of a component compute, and gives everybody the result."""

    def __init__(
        self, owners: Mapping[str, int], world: Ranks, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._owners = owners
        self._world = world
        self._device, self._dtype = device, dtype

    def __call__(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return on every rank what the owner of `name` computed; all ranks call it together."""
        owner = self._owners[name]
        mine = owner == self._world.index
        result = compute().to(self._dtype) if mine else None
        if self._world.size == 1:
            assert result is not None
            return result
        shape = torch.zeros(_MOST_DIMENSIONS, dtype=torch.int64, device=self._device)
        if result is not None:
            shape[: result.ndim] = torch.tensor(result.shape)
        sizes = [size for size in self._world.broadcast(shape, owner).tolist() if size]
        if result is None:
            result = torch.empty(sizes, dtype=self._dtype, device=self._device)
        return self._world.broadcast(result, owner)
