"""What the engine says of itself: its state, since when, and why."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum


class EngineState(StrEnum):
    #: The first group is being started or loads the model.
    STARTING = "starting"
    #: The group is warm.
    HEALTHY = "healthy"
    #: A group was lost or could not start; another one is being started.
    DEGRADED = "degraded"
    #: Claims nothing more; running tasks are being finished.
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """A snapshot; `since` is seconds since the epoch, memory what the device held when warm."""

    state: EngineState
    since: float
    reason: str = ""
    memory_bytes: int | None = None

    @property
    def ready(self) -> bool:
        return self.state is EngineState.HEALTHY


class HealthRecord:
    """The engine's health as its supervisor writes it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.now = EngineHealth(state=EngineState.STARTING, since=clock())

    def enter(self, state: EngineState, reason: str = "") -> None:
        """Enter a state; nothing leads out of STOPPING."""
        if self.now.state is not EngineState.STOPPING:
            self.now = replace(self.now, state=state, since=self._clock(), reason=reason)

    def warm(self, memory_bytes: int) -> None:
        self.now = replace(self.now, memory_bytes=memory_bytes)
        self.enter(EngineState.HEALTHY)
