"""What a worker group needs of whatever starts its ranks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Where ranks find their supervisor, and the word by which it knows them."""

    host: str
    port: int
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """How a rank is told."""
        return {CONTROL_ADDRESS: f"{self.host}:{self.port}", CONTROL_TOKEN: self.token}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOrder:
    """How many ranks to start, on all machines together, and what they are told."""

    size: int
    #: None where the ranks of another machine have been told, and tell these.
    control: Control | None
    environment: Mapping[str, str] = field(default_factory=dict)


class GroupLauncher(Protocol):
    """Starts one group at a time; only it knows how."""

    async def start(self, order: LaunchOrder) -> None:
        """Start all ranks; raise GroupStartError if that is impossible."""

    async def wait(self) -> str:
        """Return, once all ranks have ended, why."""

    async def kill(self) -> None:
        """End all ranks that are left, and return when none is."""
