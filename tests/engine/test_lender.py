"""Ranks that are lent: started again after each end, and ended by a stop."""

import asyncio

import pytest
import uvloop

from hidream_server.engine.launchers.launcher import LaunchOrder
from hidream_server.engine.lender import Lender
from hidream_server.errors import GroupStartError

ORDER = LaunchOrder(size=4, control=None)


class FakeLauncher:
    """Its ranks end when a test says so, or when they are killed."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[LaunchOrder] = asyncio.Queue()
        self.killed = 0

    async def start(self, order: LaunchOrder) -> None:
        self.ended = asyncio.Event()
        self.started.put_nowait(order)

    async def wait(self) -> str:
        await self.ended.wait()
        return "ended"

    async def kill(self) -> None:
        self.killed += 1
        self.ended.set()


def test_ranks_that_have_ended_are_followed_by_others():
    async def life() -> None:
        launcher = FakeLauncher()
        lender = Lender(launcher, ORDER, pause_s=0.0)
        running = asyncio.create_task(lender.run())
        for _ in range(3):
            assert await launcher.started.get() == ORDER
            launcher.ended.set()
        await launcher.started.get()
        lender.stop()
        await running
        assert launcher.ended.is_set()

    uvloop.run(asyncio.wait_for(life(), 30))


def test_a_stop_does_not_wait_for_the_pause():
    async def life() -> None:
        launcher = FakeLauncher()
        lender = Lender(launcher, ORDER, pause_s=3600.0)
        running = asyncio.create_task(lender.run())
        await launcher.started.get()
        launcher.ended.set()
        lender.stop()
        await running
        assert launcher.started.empty()

    uvloop.run(asyncio.wait_for(life(), 30))


def test_ranks_that_cannot_be_started_end_it():
    class Broken(FakeLauncher):
        async def start(self, order: LaunchOrder) -> None:
            raise GroupStartError("no")

    with pytest.raises(GroupStartError):
        uvloop.run(asyncio.wait_for(Lender(Broken(), ORDER).run(), 30))
