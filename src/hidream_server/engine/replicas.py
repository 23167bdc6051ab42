"""Several supervisors that serve one queue, each with devices of its own, seen as one engine.

Adds nothing to what each of them does: a task is claimed by whichever is free first.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from hidream_server.engine.health import EngineHealth, EngineState
from hidream_server.engine.supervisor import Supervisor

_FROM_BEST_TO_WORST = (
    EngineState.HEALTHY,
    EngineState.STARTING,
    EngineState.DEGRADED,
    EngineState.STOPPING,
)


class Replicas:
    """One or more supervisors, run and stopped together."""

    def __init__(self, supervisors: Sequence[Supervisor]) -> None:
        self._supervisors = supervisors

    async def run(self) -> None:
        """Serve until stopped; where one of them fails, the others finish and stop, too."""
        running = [asyncio.create_task(supervisor.run()) for supervisor in self._supervisors]
        _, others = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        if others:
            self.stop()
            await asyncio.wait(others)
        for task in running:
            task.result()

    def stop(self, drain_s: float | None = None) -> None:
        """Stop them all, as `Supervisor.stop` does one."""
        for supervisor in self._supervisors:
            supervisor.stop(drain_s)

    async def wait_ready(self) -> None:
        """Wait until one of them has been warm for the first time."""
        waiting = [asyncio.ensure_future(one.ready.wait()) for one in self._supervisors]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waiting:
                wait.cancel()

    @property
    def stopping(self) -> bool:
        return any(supervisor.stopping for supervisor in self._supervisors)

    @property
    def running(self) -> int:
        """How many tasks they are working on."""
        return sum(supervisor.running for supervisor in self._supervisors)

    @property
    def health(self) -> EngineHealth:
        return combined([supervisor.health.now for supervisor in self._supervisors])


def combined(parts: Sequence[EngineHealth]) -> EngineHealth:
    """Return the health of the one that is worst off for longest, ready if any is."""
    worst = max(parts, key=lambda part: (_FROM_BEST_TO_WORST.index(part.state), -part.since))
    return replace(
        worst,
        warm=any(part.warm for part in parts),
        memory_bytes=max((part.memory_bytes or 0 for part in parts), default=0) or None,
        replicas=len(parts),
        replicas_ready=sum(part.ready for part in parts),
    )
