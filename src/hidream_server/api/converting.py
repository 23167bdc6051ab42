"""Converts pictures for those who ask for another format: in threads, few at once."""

import asyncio
from typing import Annotated

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from hidream_server.api.formats import Format, convert
from hidream_server.store.blobs import Blob

#: One takes a core for up to half a second.
_AT_ONCE = 2


class Converting:
    """Conversions for all who ask; belongs to one event loop, in which the others wait."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def convert(
        self, picture: Blob, to: Format, compression: int | None, field: str = "output_compression"
    ) -> bytes:
        """Return a stored picture in another format; see `formats.convert`."""
        async with self._slots:
            return await run_in_threadpool(lambda: convert(picture.read(), to, compression, field))

    async def convert_bytes(
        self, png: bytes, to: Format, compression: int | None, field: str = "output_compression"
    ) -> bytes:
        """Return a picture in another format; see `formats.convert`."""
        if to is Format.PNG:
            return convert(png, to, compression, field)
        async with self._slots:
            return await run_in_threadpool(convert, png, to, compression, field)


async def _converting(request: Request) -> Converting:
    converting: Converting = request.app.state.services.converting
    return converting


ConvertingDep = Annotated[Converting, Depends(_converting)]
