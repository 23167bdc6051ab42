"""Results that one rank computes and all need, like the text encoders' embeddings.

They go by way of the host: a thread beside the steps may send them, and no device waits in the
order of its collectives.
"""

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
        """`world` joins all ranks by tensors on the CPU."""
        self._owners = owners
        self._world = world
        self._device, self._dtype = device, dtype

    def __call__(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return on every rank what the owner of `name` computed; all ranks call it together."""
        owner = self._owners[name]
        result = compute().to(self._dtype) if owner == self._world.index else None
        if self._world.size == 1:
            assert result is not None
            return result
        sizes = self._sizes(result, owner)
        if result is None:
            sent = torch.empty(sizes, dtype=self._dtype)
        else:
            sent = result.cpu().contiguous()
        # As bytes: not every transport knows every dtype.
        self._world.broadcast(sent.view(torch.uint8), owner)
        return sent.to(self._device) if result is None else result

    def _sizes(self, result: Tensor | None, owner: int) -> list[int]:
        shape = torch.zeros(_MOST_DIMENSIONS, dtype=torch.int64)
        if result is not None:
            shape[: result.ndim] = torch.tensor(result.shape)
        return [size for size in self._world.broadcast(shape, owner).tolist() if size]
