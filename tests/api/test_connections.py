"""What a connection may do: how much it may send, how slowly, and how many there may be.

All against a real server on loopback, with bytes as they go over the wire.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import pytest
from fastapi import FastAPI

from hidream_server import cli
from hidream_server.api.connections import MAX_HEAD_BYTES, BoundedConnection
from hidream_server.settings import Settings
from tests.http_server import http_server

LIVE = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
#: How long any of this may take at most, in seconds.
PATIENCE_S = 30.0
#: How long a request may take here, in seconds.
SOON_S = 0.5


@contextlib.contextmanager
def connected(port: int, *parts: bytes) -> Iterator[socket.socket]:
    """Open a connection and send something."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        for part in parts:
            connection.sendall(part)
        yield connection


def answer(connection: socket.socket) -> tuple[HTTPResponse, Any]:
    """Return the next answer and what its JSON says."""
    response = HTTPResponse(connection)
    response.begin()
    return response, json.loads(response.read())


def refusal(connection: socket.socket, status: int) -> dict[str, Any]:
    """Return the error in the next answer, which looks like all others."""
    response, body = answer(connection)
    assert response.status == status
    assert response.headers["content-type"] == "application/json"
    assert len(response.headers["x-request-id"]) == 32
    assert response.headers["x-content-type-options"] == "nosniff"
    assert set(body["error"]) == {"code", "message", "problems"}
    return dict(body["error"])


def ended(connection: socket.socket) -> bool:
    """Wait until the other side has ended the connection."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(2**16):
            pass
    return True


@pytest.fixture
def port(app: FastAPI) -> Iterator[int]:
    with http_server(app, Settings()) as port:
        yield port


# Heads


def with_header(size: int) -> bytes:
    """Return a request whose head, as it is counted, has this size."""
    others = len("/livez") + len("Host: a\r\n") + len("X: \r\n")
    return b"GET /livez HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * (size - others))


def with_path(size: int) -> bytes:
    path = b"/" + b"x" * (size - len("/Host: a\r\n"))
    return b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path


def with_many_headers(size: int) -> bytes:
    others = len("/livez") + len("Host: a\r\n")
    return b"GET /livez HTTP/1.1\r\nHost: a\r\n%s\r\n" % (b"x:  \r\n" * ((size - others) // 5))


@pytest.mark.parametrize("request_of", [with_header, with_path, with_many_headers])
def test_a_head_of_the_largest_size_is_served_and_a_larger_one_is_431(port, request_of):
    with connected(port, request_of(MAX_HEAD_BYTES)) as connection:
        assert answer(connection)[0].status in (200, 404)
    with connected(port, request_of(MAX_HEAD_BYTES + 5)) as connection:
        assert refusal(connection, 431)["code"] == "head_too_large"
        assert ended(connection)


def test_a_head_is_measured_the_same_however_it_arrives(port):
    for size, statuses in ((MAX_HEAD_BYTES, (200,)), (MAX_HEAD_BYTES + 1, (431,))):
        request = with_header(size)
        parts = [request[at : at + 5000] for at in range(0, len(request), 5000)]
        with connected(port, *parts) as connection:
            assert answer(connection)[0].status in statuses


def test_a_head_that_never_ends_is_431_before_it_fills_the_memory(port):
    with connected(port, b"GET /livez HTTP/1.1\r\nX: ") as connection:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * 2**20:
                sent += connection.send(b"x" * 2**14)
        # What lies in the buffers of both sides counts as sent.
        assert sent < 16 * 2**20
        assert refusal(connection, 431)["code"] == "head_too_large"


def test_a_large_body_in_the_same_packet_as_a_small_head_is_no_large_head(port):
    body = b'{"prompt": "%s"}' % (b"x" * 200_000)
    head = b"POST /submit HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    with connected(port, head + body + LIVE) as connection:
        assert answer(connection)[0].status == 422
        assert answer(connection)[0].status == 200


@pytest.mark.parametrize(
    "sent", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"\x16\x03"]
)
def test_what_is_no_http_is_400_in_the_one_shape(port, sent):
    with connected(port, sent) as connection:
        assert refusal(connection, 400)["code"] == "malformed_request"
        assert ended(connection)


# Bodies


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /submit HTTP/1.1", b"Host: a", b"Content-Type: application/json", *headers]
    return b"\r\n".join([*lines, b"", body])


def chunked(size: int) -> bytes:
    chunk = b"%x\r\n%s\r\n" % (2**16, b" " * 2**16)
    return chunk * (size // 2**16) + b"0\r\n\r\n"


@pytest.fixture
def small_port(client_with) -> Iterator[int]:
    """The port of a server that takes bodies of one MiB."""
    with http_server(client_with(max_body_mb=1).app, Settings()) as port:
        yield port


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_413_and_the_connection_can_be_used_again(small_port, declared):
    if declared:
        request = post(b" " * (2**20 + 1), b"Content-Length: %d" % (2**20 + 1))
    else:
        request = post(chunked(2**21), b"Transfer-Encoding: chunked")
    with connected(small_port, request, LIVE) as connection:
        error = refusal(connection, 413)
        assert (error["code"], "1 MiB" in error["message"]) == ("body_too_large", True)
        assert answer(connection)[1] == {"status": "alive"}


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_the_largest_size_is_read(small_port, declared):
    if declared:
        request = post(b" " * 2**20, b"Content-Length: %d" % 2**20)
    else:
        request = post(chunked(2**20), b"Transfer-Encoding: chunked")
    with connected(small_port, request) as connection:
        # It is no JSON, and that is all.
        assert refusal(connection, 422)["code"] == "invalid_request"


def test_a_body_that_is_declared_too_large_is_not_even_asked_for(small_port):
    request = post(b"", b"Content-Length: %d" % 2**30, b"Expect: 100-continue")
    with connected(small_port, request) as connection:
        assert refusal(connection, 413)["code"] == "body_too_large"


# Time


@pytest.fixture
def hasty_port(client_with, monkeypatch) -> Iterator[int]:
    """The port of a server that waits half a second for a request."""
    monkeypatch.setattr(BoundedConnection, "request_s", SOON_S)
    with http_server(client_with(max_body_mb=1).app, Settings()) as port:
        yield port


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"GET /livez HTTP/1.1\r\nHos",
        LIVE + b"GET ",
        post(b"{", b"Content-Length: 2"),
    ],
    ids=["nothing", "an empty line", "half a head", "half a second request", "half a body"],
)
def test_a_request_that_does_not_come_whole_in_time_ends_the_connection(hasty_port, sent):
    began = time.monotonic()
    with connected(hasty_port, sent) as connection:
        assert ended(connection)
    assert SOON_S / 2 < time.monotonic() - began < PATIENCE_S / 2


def test_a_request_that_trickles_gets_no_more_time(hasty_port):
    with connected(hasty_port, b"GET /livez HTTP/1.1\r\nX: ") as connection:
        connection.settimeout(SOON_S / 10)
        deadline = time.monotonic() + PATIENCE_S
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                connection.send(b"x")
                with contextlib.suppress(TimeoutError):
                    assert connection.recv(1) == b""
                    break
        assert time.monotonic() < deadline


def test_the_rest_of_a_body_that_was_refused_gets_no_more_time_either(hasty_port):
    with connected(hasty_port, post(b"", b"Content-Length: %d" % 2**30)) as connection:
        assert refusal(connection, 413)
        assert ended(connection)


def test_a_connection_is_not_kept_for_ever_after_a_body_was_refused(client_with, monkeypatch):
    monkeypatch.setattr(cli.http_server, "_KEEP_ALIVE_S", SOON_S)
    request = post(b" " * 2**21, b"Content-Length: %d" % 2**21)
    with (
        http_server(client_with(max_body_mb=1).app, Settings()) as port,
        connected(port, request) as connection,
    ):
        assert refusal(connection, 413)
        assert ended(connection)


def test_a_request_that_is_being_answered_has_all_the_time_it_needs(app, monkeypatch):
    monkeypatch.setattr(BoundedConnection, "request_s", SOON_S / 5)

    @app.get("/slow")
    def slow() -> str:
        time.sleep(SOON_S)
        return "done"

    with (
        http_server(app, Settings()) as port,
        connected(port, LIVE.replace(b"/livez", b"/slow"), b"\r\n") as connection,
    ):
        assert answer(connection)[1] == "done"


def test_a_connection_may_be_silent_between_two_requests(hasty_port):
    with connected(hasty_port, LIVE) as connection:
        assert answer(connection)[0].status == 200
        connection.settimeout(2 * SOON_S)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(PATIENCE_S)
        connection.sendall(LIVE)
        assert answer(connection)[0].status == 200


# How many


def test_connections_above_the_most_are_503_and_those_before_them_go_on(app):
    with http_server(app, Settings(max_connections=2)) as port, contextlib.ExitStack() as opened:
        first, second = (opened.enter_context(connected(port, LIVE)) for _ in range(2))
        for connection in (first, second):
            assert answer(connection)[0].status == 200
        with connected(port) as third:
            response, body = answer(third)
            assert response.status == 503
            assert body["error"]["code"] == "too_many_connections"
            assert int(response.headers["retry-after"]) >= 1
            assert ended(third)
        for connection in (first, second):
            connection.sendall(LIVE)
            assert answer(connection)[0].status == 200
        first.close()
        deadline = time.monotonic() + PATIENCE_S
        status = 503
        while status == 503 and time.monotonic() < deadline:
            with connected(port) as fourth, contextlib.suppress(ConnectionError):
                fourth.sendall(LIVE)
                status = answer(fourth)[0].status
        assert status == 200


def test_without_a_bound_there_is_none(app):
    with http_server(app, Settings(max_connections=0)) as port, contextlib.ExitStack() as opened:
        many = [opened.enter_context(connected(port, LIVE)) for _ in range(50)]
        assert {answer(connection)[0].status for connection in many} == {200}
