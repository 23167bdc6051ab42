"""Conversions do not take all cores, and those who wait do not take the loop."""

import asyncio
import threading
from functools import partial
from pathlib import Path

import uvloop

from hidream_server.api import converting
from hidream_server.api.converting import Converting
from hidream_server.api.formats import Format
from hidream_server.store.blobs import Blob


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
    (tmp_path / "a.png").write_bytes(b"picture ")
    picture = Blob(path=tmp_path / "a.png")

    async def main() -> list[bytes]:
        convert_it = partial(Converting().convert, picture, Format.WEBP, 80)
        asked = [asyncio.create_task(convert_it()) for _ in range(5)]
        await asyncio.to_thread(two_run.wait, 30)
        may_end.set()
        return await asyncio.gather(*asked)

    assert uvloop.run(main()) == [b"picture webp"] * 5
    assert most == 2
