"""Keeps ranks at the disposal of a worker group whose supervisor is on another machine.

Knows no task and no model; how long its ranks live, and what they do, is decided there.
"""

import asyncio
import contextlib
import logging

from hidream_server.engine.launchers.launcher import GroupLauncher, LaunchOrder

logger = logging.getLogger(__name__)

#: Between the end of a group and its successor's start.
_PAUSE_S = 1.0


class Lender:
    """Starts ranks, and others when those have ended, until it is stopped."""

    def __init__(
        self, launcher: GroupLauncher, order: LaunchOrder, pause_s: float = _PAUSE_S
    ) -> None:
        self._launcher = launcher
        self._order = order
        self._pause_s = pause_s
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Lend until stopped; raise GroupStartError if ranks cannot be started at all."""
        while not self._stopping.is_set():
            logger.info("Ranks wait for the group's first machine")
            await self._launcher.start(self._order)
            ended = asyncio.create_task(self._launcher.wait())
            stopped = asyncio.create_task(self._stopping.wait())
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            # A group that has lost its first machine may not know it.
            await self._launcher.kill()
            logger.info("The group is over: %s", await ended)
            stopped.cancel()
            await self._wait()

    def stop(self) -> None:
        """End the ranks, and start none."""
        self._stopping.set()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), self._pause_s)
