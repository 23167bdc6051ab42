"""What goes on beside the work of a process, and that its end does not wait for it."""

import asyncio
import logging
import threading
from types import SimpleNamespace

import pytest

from hidream_server.cli import lifetime


class Busy:
    """A housekeeper that tidies up for as long as it may."""

    def __init__(self) -> None:
        self.tidying, self.stopped = threading.Event(), threading.Event()
        self.watched = threading.Semaphore(0)

    def watch(self) -> None:
        self.watched.release()

    def tidy(self) -> None:
        self.tidying.set()
        assert self.stopped.wait(30)

    def stop(self) -> None:
        self.stopped.set()


def test_leases_are_watched_while_a_large_house_is_tidied_and_the_end_waits_for_neither(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(lifetime, "_TIDY_S", 0.001)
    monkeypatch.setattr(lifetime, "follow_pace", lambda *_: None)
    busy, left = Busy(), []
    stores = SimpleNamespace(housekeeper=busy, outlook=None)
    membership = SimpleNamespace(
        refresh=lambda: None, leave=lambda: left.append("left"), members=[]
    )

    async def never() -> None:
        await asyncio.Event().wait()

    engine = SimpleNamespace(supervisors=[], wait_ready=never)

    async def main() -> None:
        async with lifetime.kept_in_order(stores, membership, engine, logging.NullHandler()):
            assert await asyncio.to_thread(busy.tidying.wait, 30)
            for _ in range(3):
                assert await asyncio.to_thread(busy.watched.acquire, timeout=30)
            assert not busy.stopped.is_set()

    asyncio.run(main())
    assert busy.stopped.is_set()
    assert left == ["left"]


def test_what_another_version_says_keeps_nobody_from_being_heard_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lifetime, "SAY_S", 0.0)
    heard = threading.Semaphore(0)

    def refresh() -> None:
        heard.release()
        raise ValueError("a state that is not known here")

    async def main() -> None:
        membership = SimpleNamespace(refresh=refresh, members=[])
        keeping = asyncio.create_task(lifetime._keep_in_touch(SimpleNamespace(), membership, True))
        for _ in range(2):
            assert await asyncio.to_thread(heard.acquire, timeout=30)
        assert not keeping.done()
        keeping.cancel()

    asyncio.run(main())
    assert "could not be understood" in caplog.text
