"""The supervisors of one process, each with devices of its own, run and stopped together.

Adds nothing to what each of them does: a task is claimed by whichever is free first. There may be
none, where other processes do the work.
"""

import asyncio
from collections.abc import Sequence

from hidream_server.engine.supervisor import Supervisor


class Replicas:
    """Supervisors, or none."""

    def __init__(self, supervisors: Sequence[Supervisor]) -> None:
        self.supervisors = supervisors
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Serve until stopped; where one of them fails, the others finish and stop, too."""
        if not self.supervisors:
            await self._stopped.wait()
            return
        running = [asyncio.create_task(supervisor.run()) for supervisor in self.supervisors]
        _, others = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        if others:
            self.stop()
            await asyncio.wait(others)
        for task in running:
            task.result()

    def stop(self, drain_s: float | None = None) -> None:
        """Stop them all, as `Supervisor.stop` does one."""
        self._stopped.set()
        for supervisor in self.supervisors:
            supervisor.stop(drain_s)

    async def wait_ready(self) -> None:
        """Wait until one of them has been warm for the first time."""
        if not self.supervisors:
            return
        waiting = [asyncio.ensure_future(one.ready.wait()) for one in self.supervisors]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waiting:
                wait.cancel()

    @property
    def stopping(self) -> bool:
        return self._stopped.is_set()

    @property
    def running(self) -> int:
        """How many tasks they are working on."""
        return sum(supervisor.running for supervisor in self.supervisors)

    @property
    def stuck(self) -> bool:
        """A group stands still, and its supervisor does nothing about it."""
        return any(supervisor.stuck for supervisor in self.supervisors)
