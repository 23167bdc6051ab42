"""What the engine says of itself: its state, since when, and why."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class EngineState(StrEnum):
    #: The first group is being started or loads the model.
    STARTING = "starting"
    #: The group is warm, with the layout that was wanted.
    HEALTHY = "healthy"
    #: A group was lost or could not start; another one is being started, or serves with less.
    DEGRADED = "degraded"
    #: Claims nothing more; running tasks are being finished.
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """A snapshot; `since` is seconds since the epoch, memory what the device held when warm.

    A degraded engine is ready, too, once a group with a smaller layout is warm.
    """

    state: EngineState
    since: float
    reason: str = ""
    memory_bytes: int | None = None
    warm: bool = False
    #: What the group is started with, and what was asked for.
    layout: str = ""
    wanted_layout: str = ""
    #: How many groups there are to be, and how many of them are ready.
    replicas: int = 1
    replicas_ready: int = 0

    @property
    def ready(self) -> bool:
        return self.warm and self.state is not EngineState.STOPPING


class HealthRecord:
    """The engine's health as its supervisor writes it."""

    def __init__(self, wanted_layout: str = "tp1", clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.now = EngineHealth(
            state=EngineState.STARTING,
            since=clock(),
            layout=wanted_layout,
            wanted_layout=wanted_layout,
        )

    def lost(self, reason: str) -> None:
        """A group was lost, or could not start."""
        self.now = replace(self.now, warm=False)
        self._enter(EngineState.DEGRADED, reason)

    def starting(self, layout: str) -> None:
        """A group is started with this layout."""
        self.now = replace(self.now, layout=layout, warm=False)

    def warm(self, memory_bytes: int) -> None:
        """The group serves; with less than what was wanted the reason and its time stay."""
        self.now = replace(self.now, memory_bytes=memory_bytes, warm=True)
        if self.now.layout == self.now.wanted_layout:
            self._enter(EngineState.HEALTHY)

    def stopping(self) -> None:
        self._enter(EngineState.STOPPING)

    def _enter(self, state: EngineState, reason: str = "") -> None:
        """Enter a state; nothing leads out of STOPPING."""
        if self.now.state is not EngineState.STOPPING:
            self.now = replace(self.now, state=state, since=self._clock(), reason=reason)


_FROM_BEST_TO_WORST = (
    EngineState.HEALTHY,
    EngineState.STARTING,
    EngineState.DEGRADED,
    EngineState.STOPPING,
)
#: Of a service that nobody works for.
NOBODY = "No worker group is there."


def combined(parts: Sequence[EngineHealth], now: float = 0.0) -> EngineHealth:
    """Return the health of the one that is worst off for longest, ready if any is."""
    if not parts:
        return EngineHealth(state=EngineState.DEGRADED, since=now, reason=NOBODY, replicas=0)
    worst = max(parts, key=lambda part: (_FROM_BEST_TO_WORST.index(part.state), -part.since))
    return replace(
        worst,
        warm=any(part.warm for part in parts),
        memory_bytes=max((part.memory_bytes or 0 for part in parts), default=0) or None,
        replicas=len(parts),
        replicas_ready=sum(part.ready for part in parts),
    )
