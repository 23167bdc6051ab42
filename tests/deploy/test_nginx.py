"""nginx.conf before a real server, where nginx is installed: TLS, events, bodies, who asked."""

import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import trustme

from tests.conftest import servers
from tests.deploy.files import DEPLOY, program_or_skip, read, run
from tests.e2e.server import PATIENCE_S, Server, free_port

MIB = 2**20


@dataclass(frozen=True)
class Proxy:
    """A running nginx."""

    server: Server
    https_port: int
    http_port: int
    context: ssl.SSLContext

    def client(self, address: str = "127.0.0.2") -> httpx2.Client:
        """Return a client that asks from this address, which is not nginx's own."""
        transport = httpx2.HTTPTransport(verify=self.context, local_address=address)
        url = f"https://localhost:{self.https_port}"
        return httpx2.Client(transport=transport, base_url=url, timeout=PATIENCE_S)


def configured(folder: Path, server: Server, https_port: int, http_port: int) -> Path:
    """Return the configuration as it is, but for places; every change must find its line."""
    text = read(DEPLOY / "nginx.conf")
    for old, new in (
        ("/tmp/", f"{folder}/"),
        ("server hidream:8088;", f"server 127.0.0.1:{server.port};"),
        ("listen 8443 ", f"listen 127.0.0.1:{https_port} "),
        ("listen 8080;", f"listen 127.0.0.1:{http_port};"),
        ("/etc/nginx/tls/", f"{folder}/"),
        ("error_log stderr", f"error_log {folder}/error.log"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[Proxy]:
    nginx = program_or_skip("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for part in certificate.cert_chain_pems:
        part.write_to_path(folder / "tls.crt", append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with servers(folder, profiles) as make:
        server = make("--trusted-proxies", "127.0.0.1")
        server.start()
        ports = free_port(), free_port()
        # Its workers become another user where it is started by root, who alone can enter here.
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        command = [nginx, "-p", folder, "-c", configured(folder, server, *ports), *user]
        run(*command)  # it returns when it listens
        try:
            yield Proxy(server, *ports, context)
        finally:
            run(*command, "-s", "stop")


def test_a_picture_comes_by_https(proxy: Proxy) -> None:
    proxy.server.wait_for("/readyz")
    body = {"prompt": "a red circle", "resolution": "512x512", "num_inference_steps": 2}
    with proxy.client() as client:
        task = client.post("/submit", json=body).raise_for_status().json()["task_id"]
        status = client.get(f"/status/{task}", params={"wait": 60}).json()
        [url] = status["result_urls"]
        assert url.startswith(f"https://localhost:{proxy.https_port}/images/")
        assert client.get(url).content.startswith(b"\x89PNG")


def test_events_come_when_they_happen(proxy: Proxy) -> None:
    """The stream of all tasks has no end: what arrives at all was not held back."""
    with proxy.client() as client, client.stream("GET", "/events") as events:
        lines = events.iter_lines()
        task = client.post("/submit", json={"prompt": "a red circle"}).json()["task_id"]
        for line in lines:
            if line.startswith("data:") and task in line:
                break
        client.post(f"/tasks/{task}/cancel").raise_for_status()


def test_who_asked_is_known_and_cannot_be_made_up(proxy: Proxy) -> None:
    """An Idempotency-Key is a client's own; the client is the address that nginx saw."""

    def submit(address: str, claimed: str) -> str:
        headers = {"Idempotency-Key": "one", "X-Forwarded-For": claimed}
        with proxy.client(address) as client:
            answer = client.post("/submit", json={"prompt": "a red circle"}, headers=headers)
            return str(answer.raise_for_status().json()["task_id"])

    first = submit("127.0.0.2", "192.0.2.1")
    assert submit("127.0.0.2", "192.0.2.2") == first
    assert submit("127.0.0.3", "192.0.2.1") != first


def test_the_server_says_itself_that_a_body_is_too_large(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.post("/submit", content=b" " * (16 * MIB + 1))
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"


def test_nginx_takes_no_body_that_is_larger_still(proxy: Proxy) -> None:
    head = f"POST /submit HTTP/1.1\r\nHost: localhost\r\nContent-Length: {18 * MIB}\r\n\r\n"
    with (
        socket.create_connection(("localhost", proxy.https_port), timeout=PATIENCE_S) as plain,
        proxy.context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_http_leads_to_https(proxy: Proxy) -> None:
    answer = httpx2.get(f"http://localhost:{proxy.http_port}/tasks?limit=1")
    assert answer.status_code == 308
    assert answer.headers["location"] == "https://localhost/tasks?limit=1"


def test_a_client_keeps_its_own_request_id(proxy: Proxy) -> None:
    with proxy.client() as client:
        answer = client.get("/livez", headers={"X-Request-ID": "mine"})
        assert answer.headers["x-request-id"] == "mine"
