"""The end of a task is told to a receiver that verifies it: in good times, and after a crash."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook

from hidream_server.cli.webhooks import webhook_secrets
from hidream_server.store.database import open_sqlite
from tests.e2e.server import PATIENCE_S, Server, free_port

REQUEST = {"resolution": "256x256", "num_inference_steps": 2, "seed": 11}


@dataclass
class Receiver:
    """A server on loopback; answers with these statuses, the last of which stays."""

    statuses: Sequence[int] = (204,)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    #: How many messages it was to get.
    awaited: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=1"

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.received]

    @contextmanager
    def listening(self) -> Iterator[None]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                count = len(receiver.received)
                receiver.received.append((headers, body))
                self.send_response(receiver.statuses[min(count, len(receiver.statuses) - 1)])
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def wait_for(self, count: int) -> None:
        self.awaited = count
        deadline = time.monotonic() + PATIENCE_S
        while len(self.received) < count:
            assert time.monotonic() < deadline, self.received
            time.sleep(0.05)


def secret_of(server: Server) -> str:
    database = open_sqlite(server.folder / "var" / "tasks.db")
    secret = webhook_secrets(database)("")
    database.dispose()
    return secret


def verified(server: Server, received: tuple[dict[str, str], bytes]) -> dict[str, Any]:
    """Return a message whose signature is right, as the receiver's own library sees it."""
    headers, body = received
    assert Webhook(secret_of(server)).verify(body, headers) == json.loads(body)
    return dict(json.loads(body))


@pytest.fixture(scope="module")
def telling(warm_server: Callable[..., Server]) -> Server:
    """A warm server that may tell this machine."""
    return warm_server("--webhook-allow-private")


@pytest.fixture(scope="module")
def listen(telling: Server) -> Iterator[Callable[[Receiver], object]]:
    """Let receivers listen until the server has stopped: by then nobody was told once more."""
    receivers: list[Receiver] = []
    with ExitStack() as listening:

        def listen(receiver: Receiver) -> None:
            listening.enter_context(receiver.listening())
            receivers.append(receiver)

        yield listen
        assert telling.stop() == 0
    for receiver in receivers:
        assert len(receiver.received) == receiver.awaited


def test_the_end_of_a_task_is_told_once_and_says_where_the_picture_is(
    telling: Server, listen: Callable[[Receiver], object]
) -> None:
    receiver = Receiver()
    listen(receiver)
    task_id = telling.submit(**REQUEST, webhook_url=receiver.url)
    receiver.wait_for(1)
    message = verified(telling, receiver.received[0])
    status = telling.status(task_id)
    assert (message["type"], status["status"]) == ("task.completed", "completed")
    assert message["timestamp"] == status["completed_at"]
    [picture] = telling.pictures(task_id)
    [url] = message["data"].pop("result_urls")
    assert telling.client.get(url).content == picture
    assert message["data"].items() <= status.items()
    headers, _ = receiver.received[0]
    assert headers["content-type"] == "application/json"

    long = REQUEST | {"num_inference_steps": 200}
    cancelled = telling.submit(**long, webhook_url=receiver.url)
    telling.client.post(f"/tasks/{cancelled}/cancel").raise_for_status()
    receiver.wait_for(2)
    assert verified(telling, receiver.received[1])["type"] == "task.cancelled"
    assert len(set(receiver.ids)) == 2


def test_a_receiver_that_fails_is_told_again_under_the_same_id(
    telling: Server, listen: Callable[[Receiver], object]
) -> None:
    receiver = Receiver(statuses=(500, 200))
    listen(receiver)
    telling.submit(**REQUEST, webhook_url=receiver.url)
    receiver.wait_for(2)
    messages = [verified(telling, received) for received in receiver.received]
    assert messages[0] == messages[1]
    assert len(set(receiver.ids)) == 1
    first, second = (int(headers["webhook-timestamp"]) for headers, _ in receiver.received)
    assert 4 <= second - first <= 30
    assert "The receiver answered 500" in telling.console()


def test_a_server_that_is_killed_after_the_end_tells_it_when_it_is_back(
    telling: Server, listen: Callable[[Receiver], object]
) -> None:
    receiver = Receiver()
    with socket.socket() as nobody:
        # Bound and not listening: whoever connects is refused.
        nobody.bind(("127.0.0.1", receiver.port))
        task_id = telling.submit(**REQUEST, webhook_url=receiver.url)
        telling.wait_status(task_id, "completed")
        telling.kill()
    listen(receiver)
    telling.start()
    telling.wait_for("/livez")
    receiver.wait_for(1)
    message = verified(telling, receiver.received[0])
    assert message["type"] == "task.completed"
    assert message["data"]["task_id"] == task_id
    assert message["data"]["seeds"] == [11]
