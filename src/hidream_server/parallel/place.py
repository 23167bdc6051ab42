"""A rank's place in its group, and the ranks it works with."""

from dataclasses import dataclass

from hidream_server.layouts.layout import Layout
from hidream_server.parallel.ranks import Alone, Joiner, Ranks, join_by_host


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A rank's place in its group: its number, and the ranks it works with on each axis."""

    layout: Layout
    rank: int
    #: All ranks, by way of the host: apart from the others, for a thread beside the steps.
    world: Ranks
    guidance: Ranks
    sequence: Ranks
    tensor: Ranks
    #: Tensor × expert parallel: they see the same tokens.
    block: Ranks

    @property
    def sent_bytes(self) -> int:
        """What this rank has sent on all axes."""
        return sum(ranks.sent_bytes for ranks in self._groups())

    def close(self) -> None:
        """Leave all groups; all ranks do so together."""
        for ranks in self._groups():
            ranks.close()

    def _groups(self) -> list[Ranks]:
        """Return each group once, whichever axes share it."""
        axes = (self.world, self.guidance, self.sequence, self.tensor, self.block)
        return list({id(ranks): ranks for ranks in axes}.values())


def alone() -> Place:
    one = Alone()
    return Place(
        layout=Layout(), rank=0, world=one, guidance=one, sequence=one, tensor=one, block=one
    )


def take_place(layout: Layout, rank: int) -> Place:
    """Make the groups of every axis; all ranks do so together."""
    joiner = Joiner(layout)
    everybody = list(range(layout.ranks))
    return Place(
        layout=layout,
        rank=rank,
        world=join_by_host(everybody) if len(everybody) > 1 else Alone(),
        guidance=joiner.join("cfg"),
        sequence=joiner.join("sp"),
        tensor=joiner.join("tp"),
        block=joiner.join("tp", "ep"),
    )
