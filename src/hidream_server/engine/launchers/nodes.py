"""The machines that a worker group lies on, mostly one, and this one's place among them.

A layout takes all devices of all of them, or those of the first alone, where the supervisor is.
"""

from dataclasses import dataclass

from hidream_server.errors import NodesError
from hidream_server.layouts.layout import Layout
from hidream_server.settings import Settings

LOCALHOST = "127.0.0.1"
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """So many machines with so many devices each."""

    count: int
    #: This machine's number, from 0.
    rank: int
    #: Where the first machine is for the others, and the port at which they meet; of one machine
    #: the loopback and none.
    host: str
    port: int
    devices: int

    @property
    def several(self) -> bool:
        return self.count > 1

    @property
    def all_devices(self) -> int:
        return self.count * self.devices

    def spans(self, ranks: int) -> bool:
        """So many ranks lie on more than the first machine."""
        return self.several and ranks > self.devices

    def allows(self, layout: Layout) -> bool:
        return not self.spans(layout.ranks) or layout.ranks == self.all_devices

    def control_host(self, ranks: int) -> str:
        """Return where the supervisor listens for so many ranks."""
        return self.host if self.spans(ranks) else LOCALHOST

    def here(self, ranks: int) -> int:
        """Return how many of a group's ranks this machine has."""
        return self.devices if self.spans(ranks) else ranks


def read_nodes(settings: Settings, devices: int) -> Nodes:
    """Return the machines that the settings name, each with so many devices; raise NodesError."""
    check_nodes(settings)
    if settings.nnodes == 1:
        return Nodes(count=1, rank=0, host=LOCALHOST, port=0, devices=devices)
    assert settings.rdzv_endpoint is not None
    host, _, port = settings.rdzv_endpoint.rpartition(":")
    return Nodes(
        count=settings.nnodes,
        rank=settings.node_rank,
        host=host.strip("[]"),
        port=int(port),
        devices=devices,
    )


def check_nodes(settings: Settings) -> None:
    """Raise NodesError for settings that do not go together."""
    count, rank, endpoint = settings.nnodes, settings.node_rank, settings.rdzv_endpoint
    if count == 1:
        if rank or endpoint:
            raise NodesError("--node-rank and --rdzv-endpoint go with --nnodes, which is 1.")
        return
    if endpoint is None:
        raise NodesError(
            f"--nnodes is {count}: say with --rdzv-endpoint where the first machine is, as"
            " HOST:PORT, the same on all of them."
        )
    if not 1 <= int(endpoint.rpartition(":")[2]) <= _LAST_PORT:
        raise NodesError(f"--rdzv-endpoint is {endpoint}: a port is a number up to {_LAST_PORT}.")
    if rank >= count:
        raise NodesError(f"--node-rank is {rank}: with --nnodes {count} the last is {count - 1}.")
    if settings.replicas != 1 or settings.executor == "project":
        raise NodesError(
            "A worker group on several machines is the only one of its process, and has the"
            " resident engine: leave out --replicas and --executor."
        )
