"""Framing: one message is four bytes of length and a MessagePack body.

Encoding and decoding live here and nowhere else. The supervisor's end is asyncio, a rank's end
is a plain blocking socket, because its step loop must not depend on an event loop.
"""

import asyncio
import socket
import struct
import threading
from typing import TypeVar

import msgspec

from hidream_server.errors import ProtocolError
from hidream_server.ipc.messages import AnyMessage, Command, Event

_LENGTH = struct.Struct(">I")
#: Above any picture; a longer frame means that the other side is not ours.
MAX_FRAME_BYTES = 256 * 2**20

#: Silence is asked after so many seconds, so often, and taken for an end after so many questions.
_KEEP_ALIVE = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
    # Of what was sent and not received: no question is asked then. In milliseconds.
    socket.TCP_USER_TIMEOUT: 30_000,
}

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)

T = TypeVar("T")


def _pack(message: AnyMessage) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def _length(header: bytes, max_bytes: int = MAX_FRAME_BYTES) -> int:
    (length,) = _LENGTH.unpack(header)
    if length > max_bytes:
        raise ProtocolError(f"A frame of {length} bytes is above the limit.")
    return int(length)


def _unpack(decoder: "msgspec.msgpack.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"A message could not be read: {error}.") from error


def keep_alive(sock: socket.socket) -> None:
    """Have a far end that vanishes without a word, as a machine may, noticed in half a minute."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


class SupervisorChannel:
    """The supervisor's end: sends commands, receives events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self, max_bytes: int = MAX_FRAME_BYTES) -> Event | None:
        """Return the next event, None once the rank has gone; raise ProtocolError otherwise."""
        try:
            header = await self._reader.readexactly(_LENGTH.size)
            body = await self._reader.readexactly(_length(header, max_bytes))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return _unpack(_events, body)

    async def send(self, command: Command) -> None:
        """Send a command; a rank that has gone is noticed by `receive`, not here."""
        # Once it is closed some loops drop what is written, and others raise.
        if self._writer.is_closing():
            return
        try:
            self._writer.write(_pack(command))
            await self._writer.drain()
        except ConnectionError:
            return

    def close(self) -> None:
        self._writer.close()


class RankChannel:
    """A rank's end: sends events from any thread, receives commands in one."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()

    @classmethod
    def connect(cls, host: str, port: int) -> "RankChannel":
        sock = socket.create_connection((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        return cls(sock)

    def receive(self) -> Command | None:
        """Return the next command, None once the supervisor has gone."""
        header = self._read(_LENGTH.size)
        if header is None:
            return None
        body = self._read(_length(header))
        return None if body is None else _unpack(_commands, body)

    def send(self, event: Event) -> None:
        with self._sending:
            self._socket.sendall(_pack(event))

    def _read(self, count: int) -> bytes | None:
        chunks = bytearray()
        while len(chunks) < count:
            try:
                chunk = self._socket.recv(count - len(chunks))
            except ConnectionError:
                return None
            if not chunk:
                return None
            chunks += chunk
        return bytes(chunks)

    def close(self) -> None:
        self._socket.close()
