"""What a worker group needs of whatever starts its ranks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOrder:
    """How many ranks to start, and where they find their supervisor."""

    size: int
    host: str
    port: int
    token: str
    environment: Mapping[str, str] = field(default_factory=dict)


class GroupLauncher(Protocol):
    """Starts one group at a time; only it knows how."""

    async def start(self, order: LaunchOrder) -> None:
        """Start all ranks; raise GroupStartError if that is impossible."""

    async def wait(self) -> str:
        """Return, once all ranks have ended, why."""

    async def kill(self) -> None:
        """End all ranks that are left, and return when none is."""
