"""uvicorn as this server uses it: who is believed to have asked, and HTTPS."""

import contextlib
import json
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from hidream_server.settings import Settings
from tests.http_server import http_server

PATIENCE_S = 30.0
FORGED = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer who asked, and under which address."""
    request = Request(scope)
    assert request.client is not None
    about = {"client": request.client.host, "base_url": str(request.base_url)}
    await JSONResponse(about)(scope, receive, send)


def ask(connection: HTTPConnection, headers: dict[str, str]) -> dict[str, Any]:
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Host": "a.example"} | headers)
        response = connection.getresponse()
        assert "server" not in response.headers
        return dict(json.loads(response.read()))


def asked(headers: dict[str, str], **options: Any) -> dict[str, Any]:
    """Return what a server with these options believes of a request with these headers."""
    with http_server(mirror, Settings(**options)) as port:
        return ask(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S), headers)


@pytest.mark.parametrize("trusted", [None, "10.0.0.1", "10.0.0.0/8,::1"])
def test_who_asks_cannot_pretend_to_be_another(monkeypatch, trusted):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    believed = asked(FORGED, trusted_proxies=trusted)
    assert believed == {"client": "127.0.0.1", "base_url": "http://a.example/"}


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.1, 127.0.0.0/8", "*"])
def test_a_trusted_proxy_is_believed(trusted):
    believed = asked(FORGED, trusted_proxies=trusted)
    assert believed == {"client": "203.0.113.7", "base_url": "https://a.example/"}


def test_what_a_client_told_a_trusted_proxy_is_not_believed():
    headers = {"X-Forwarded-For": "203.0.113.7, 198.51.100.2, 10.0.0.1"}
    believed = asked(headers, trusted_proxies="127.0.0.1,10.0.0.1")
    assert believed["client"] == "198.51.100.2"


# HTTPS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_port(authority: trustme.CA, tmp_path: Path) -> Iterator[int]:
    """The port of a server with a certificate for localhost."""
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(tmp_path / "chain.pem", append=True)
    settings = Settings(ssl_certfile=tmp_path / "chain.pem", ssl_keyfile=tmp_path / "key.pem")
    with http_server(mirror, settings) as port:
        yield port


def test_with_a_certificate_there_is_https_and_links_say_so(authority, tls_port):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connection = HTTPSConnection("localhost", tls_port, timeout=PATIENCE_S, context=context)
    assert ask(connection, {}) == {"client": "127.0.0.1", "base_url": "https://a.example/"}


def test_a_client_that_does_not_know_the_authority_goes_away(tls_port):
    context = ssl.create_default_context()
    connection = HTTPSConnection("localhost", tls_port, timeout=PATIENCE_S, context=context)
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(connection, {})


def test_with_a_certificate_there_is_no_http(tls_port):
    with pytest.raises(ConnectionError):
        ask(HTTPConnection("127.0.0.1", tls_port, timeout=PATIENCE_S), {})
