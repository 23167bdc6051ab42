"""What a request leaves behind when it is answered: nothing that waits for the collector.

Thousands of clients would make it stop the loop for a tenth of a second, every few seconds.
"""

import gc
import socket
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from hidream_server.settings import Settings
from tests.http_server import http_server


def ask(port: int, head: str, body: bytes = b"") -> int:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        sent = f"{head} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{sent}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = HTTPResponse(connection)
        answer.begin()
        answer.read()
        return answer.status


@pytest.fixture
def task_id(client: TestClient) -> str:
    answer = client.post("/submit", json={"prompt": "a cat"})
    return str(answer.json()["task_id"])


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """Keep all that is found in circles instead of freeing it; the value is what was found."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        ("GET /livez", b"", 200),
        ("GET /status/{task_id}", b"", 200),
        ("GET /status/nobody", b"", 404),
        ("POST /submit", b'{"prompt": "a cat"}', 200),
        ("POST /submit", b'{"prompt": 7}', 422),
    ],
)
def test_a_request_that_was_answered_is_freed_at_once(app, task_id, garbage, head, body, status):
    with http_server(app, Settings()) as port:
        assert ask(port, head.format(task_id=task_id), body) == status
    gc.collect()
    assert [found for found in garbage if isinstance(found, HTTPConnection)] == []
