"""Bounds on a connection that uvicorn has for h11 only, and not for httptools.

Knows bytes and times; what a request asks for is the app's business.
"""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hidream_server.api.errors import answer
from hidream_server.api.request_ids import new_request_id
from hidream_server.api.security_headers import security_headers
from hidream_server.errors import (
    HeadTooLargeError,
    HiDreamError,
    MalformedRequestError,
    TooManyConnectionsError,
)

#: Most bytes of a request line and headers.
MAX_HEAD_BYTES = 32 * 2**10
#: asyncio reads no more than this at once.
_READ_BYTES = 256 * 2**10


class BoundedConnection(HttpToolsProtocol):
    """A connection whose requests have heads of a bounded size, and must come in time."""

    #: A request must be there as a whole so long after its first byte, in seconds.
    request_s = 60.0

    _deadline: asyncio.TimerHandle | None = None
    #: Of a head that has begun and not ended.
    _head_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Where uvicorn counts, those who were there before are refused as well.
        most, self.limit_concurrency = self.limit_concurrency, None
        if most is not None and len(self.connections) > most:
            self._refuse(TooManyConnectionsError())
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._request_came()

    def data_received(self, data: bytes) -> None:
        self._expect_request()
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            # The head may have begun in the last bytes of one reading.
            if self._head_bytes > MAX_HEAD_BYTES + _READ_BYTES:
                self._refuse(HeadTooLargeError())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_request()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        sizes = (len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        if len(self.url) + sum(sizes) > MAX_HEAD_BYTES:
            self._refuse(HeadTooLargeError())
            # Ends the parser's work.
            raise HeadTooLargeError
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._request_came()
        if self.cycle.response_complete:
            # Answered before it was whole. uvicorn takes what came after for another request.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedRequestError())

    def _expect_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_s, self._late)

    def _request_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.cycle is not None and not (self.cycle.more_body or self.cycle.response_complete):
            # One that is being answered may go on, whatever else has begun to come.
            self._expect_request()
        else:
            self.transport.close()

    def _refuse(self, error: HiDreamError) -> None:
        if not self.transport.is_closing():
            self.transport.write(_raw_answer(error))
            self.transport.close()


def _raw_answer(error: HiDreamError) -> bytes:
    """Return an answer like any other, for what does not reach the app."""
    said = answer(None, error)
    headers = [
        *said.raw_headers,
        *security_headers(),
        (b"x-request-id", new_request_id()),
        (b"connection", b"close"),
    ]
    lines = [b"HTTP/1.1 %d %s" % (said.status_code, HTTPStatus(said.status_code).phrase.encode())]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", bytes(said.body)])
