"""Conversions do not take all cores, and those who wait do not take the loop."""

import asyncio
import threading
from pathlib import Path

import uvloop

from hidream_server.api import converting
from hidream_server.api.converting import Converting
from hidream_server.api.formats import Format


def test_two_pictures_are_converted_at_once_and_others_wait(monkeypatch, tmp_path: Path) -> None:
    running, most, may_end = 0, 0, threading.Event()
    lock, two_run = threading.Lock(), threading.Event()

    def convert(png: bytes, to: Format, compression: int | None, field: str) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                two_run.set()
        assert may_end.wait(30)
        with lock:
            running -= 1
        return png + to.encode()

    monkeypatch.setattr(converting, "convert", convert)
    path = tmp_path / "a.png"
    path.write_bytes(b"picture ")

    async def main() -> list[bytes]:
        conversions = Converting()
        asked = [asyncio.create_task(conversions.convert(path, Format.WEBP, 80)) for _ in range(5)]
        await asyncio.to_thread(two_run.wait, 30)
        may_end.set()
        return await asyncio.gather(*asked)

    assert uvloop.run(main()) == [b"picture webp"] * 5
    assert most == 2
