"""Receivers and networks for tests: real ones on loopback, and such that only pretend."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpcore2

from hidream_server.webhooks.connections import Resolver

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
PUBLIC = "93.184.215.14"
SECRET = "whsec_" + "A" * 32


def answer(status: int, *headers: str) -> bytes:
    """Return an answer with no body."""
    lines = [f"HTTP/1.1 {status} Whatever", *headers, "Content-Length: 0", "", ""]
    return "\r\n".join(lines).encode()


class Names(Resolver):
    """Answers each look-up with the next of these; the last one stays."""

    def __init__(self, *answers: Sequence[str] | OSError) -> None:
        super().__init__()
        self._answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str) -> list[str]:
        self.asked.append(host)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, OSError):
            raise found
        return list(found)


class Stream(httpcore2.AsyncNetworkStream):
    """Remembers what is written, answers with these chunks, and then as told."""

    def __init__(self, chunks: Sequence[bytes | Exception], then: str) -> None:
        self._chunks = list(chunks)
        self._then = then
        self.written = b""
        self.reads = 0
        self.closed = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.reads += 1
        if self._chunks:
            chunk = self._chunks.pop(0)
            if isinstance(chunk, Exception):
                raise chunk
            return chunk
        if self._then == "silence":
            await asyncio.Event().wait()
        return b"x" * max_bytes if self._then == "flood" else b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.written += buffer

    async def aclose(self) -> None:
        self.closed = True


class Network(httpcore2.AsyncNetworkBackend):
    """Connects to nothing, and remembers to which addresses it was asked to."""

    def __init__(self, *chunks: bytes | Exception, then: str = "end", dead: Sequence[str] = ()):
        self._chunks = chunks or (NO_CONTENT,)
        self._then = then
        self._dead = dead
        self.connected: list[tuple[str, int]] = []
        self.streams: list[Stream] = []

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.connected.append((host, port))
        if host in self._dead:
            raise httpcore2.ConnectTimeout if timeout else AssertionError("no bound on one address")
        self.streams.append(Stream(self._chunks, self._then))
        return self.streams[-1]


@dataclass
class Received:
    """A request as it came over the wire."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    port: int
    received: list[Received] = field(default_factory=list)


@asynccontextmanager
async def receiving(
    reply: bytes = NO_CONTENT, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Serve on loopback; every request is answered with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        receiver.received.append(Received(line, headers, body))
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    receiver = Receiver(server.sockets[0].getsockname()[1])
    async with server:
        yield receiver
