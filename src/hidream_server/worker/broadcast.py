"""Rank 0 decides, all ranks do the same: one small broadcast for each turn.

Goes over CPU collectives, so that it waits for no device.
"""

from datetime import timedelta
from typing import Generic, TypeVar

import torch.distributed as dist

T = TypeVar("T")

#: An idle group waits in the broadcast for work, for as long as it takes.
_PATIENCE = timedelta(days=365)


class Broadcast(Generic[T]):
    """The common mind of a group's ranks."""

    def __init__(self, device: str, backend: str) -> None:
        """Join the group that torchrun's environment names; all ranks do so together.

        `backend` is for the collectives between devices; this broadcast uses none of them.
        """
        if not dist.is_initialized():
            backends = "gloo" if device == "cpu" else f"cpu:gloo,{device}:{backend}"
            dist.init_process_group(backends, init_method="env://")
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def share(self, value: T | None) -> T:
        """Return rank 0's value on every rank; what the others pass is ignored."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        assert box[0] is not None
        return box[0]

    def wait_for_all(self) -> None:
        """Return once every rank has come here."""
        dist.barrier(group=self._group)

    def close(self) -> None:
        dist.destroy_process_group()
