"""A rank's place in its group, and the ranks it works with."""

from dataclasses import dataclass

from hidream_server.layouts.layout import Layout
from hidream_server.parallel.ranks import Alone, Ranks, join


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A rank's place in its group: its number, and the ranks it works with on each axis."""

    layout: Layout
    rank: int
    world: Ranks
    guidance: Ranks
    sequence: Ranks
    tensor: Ranks
    #: Tensor × expert parallel: they see the same tokens.
    block: Ranks

    @property
    def sent_bytes(self) -> int:
        """What this rank has sent on all axes."""
        axes = (self.world, self.guidance, self.sequence, self.tensor, self.block)
        return sum(ranks.sent_bytes for ranks in axes)


def alone() -> Place:
    one = Alone()
    return Place(
        layout=Layout(), rank=0, world=one, guidance=one, sequence=one, tensor=one, block=one
    )


def take_place(layout: Layout, rank: int) -> Place:
    """Make the groups of every axis; all ranks do so together."""
    return Place(
        layout=layout,
        rank=rank,
        world=join(layout, "cfg", "sp", "tp", "ep"),
        guidance=join(layout, "cfg"),
        sequence=join(layout, "sp"),
        tensor=join(layout, "tp"),
        block=join(layout, "tp", "ep"),
    )
