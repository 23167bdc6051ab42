"""Deliveries: to whom, what is said, and what is made of every answer."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Sequence

import httpcore2
import pytest
import trustme
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from hidream_server import __version__
from hidream_server.errors import DeliveryError, WebhookAddressError, WebhookSecretError
from hidream_server.webhooks.addresses import AddressPolicy
from hidream_server.webhooks.connections import Resolver
from hidream_server.webhooks.sender import Sender
from tests.webhooks.support import PUBLIC, SECRET, Names, Network, answer, receiving
from tests.webhooks.test_addresses import NEVER, PRIVATE

STRICT, LAX = AddressPolicy(), AddressPolicy(allow_private=True)
URL = "http://receiver.example/hooks?token=hush"
#: A context that is made quickly, where there are many senders.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BODY = b'{"type":"task.completed"}'


async def deliver(sender: Sender, url: str = URL, body: bytes = BODY, times: int = 1) -> None:
    try:
        for _ in range(times):
            await sender.send(url, "msg_1", int(time.time()), body, SECRET)
    finally:
        await sender.aclose()


def sender(network: Network, names: Resolver | None = None, **options) -> Sender:
    return Sender(STRICT, resolver=names or Names([PUBLIC]), network=network, **options)


def failure(*args, **options) -> DeliveryError:
    """Return the error of a delivery that fails; it tells no secrets."""
    with pytest.raises(DeliveryError) as caught:
        uvloop.run(asyncio.wait_for(deliver(*args, **options), 5))
    for secret in ("hush", SECRET, PUBLIC, "10.0.0.1"):
        assert secret not in str(caught.value)
    assert len(str(caught.value)) < 200
    return caught.value


# To a real receiver.


def test_a_receiver_on_this_machine_gets_a_message_that_it_can_verify():
    async def talk():
        async with receiving() as receiver:
            await deliver(Sender(LAX), f"http://127.0.0.1:{receiver.port}/a;b=1?c=d", BODY)
        return receiver

    receiver = uvloop.run(talk())
    [got] = receiver.received
    assert got.line == "POST /a;b=1?c=d HTTP/1.1"
    assert Webhook(SECRET).verify(got.body, got.headers) == json.loads(BODY)
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"] == f"hidream-server/{__version__}"
    assert set(got.headers) == {
        *("host", "content-type", "content-length", "user-agent"),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    }


def test_nothing_of_an_answer_comes_back_with_the_next_message():
    async def talk():
        async with receiving(answer(200, "Set-Cookie: session=1")) as receiver:
            await deliver(Sender(LAX), f"http://127.0.0.1:{receiver.port}/", times=2)
        return receiver.received

    first, second = uvloop.run(talk())
    assert set(first.headers) == set(second.headers)


def test_a_large_body_arrives_whole():
    body = b"x" * 3_000_000

    async def talk():
        async with receiving() as receiver:
            await deliver(Sender(LAX), f"http://127.0.0.1:{receiver.port}/", body)
        return receiver.received

    [got] = uvloop.run(talk())
    assert got.body == body


def test_a_receiver_on_this_machine_is_refused_unless_the_owner_says_so():
    async def talk():
        async with receiving() as receiver:
            names = Names(["127.0.0.1"])
            try:
                await deliver(Sender(STRICT, resolver=names), f"http://a.example:{receiver.port}/")
            finally:
                assert receiver.received == []

    with pytest.raises(DeliveryError, match="may not go to"):
        uvloop.run(talk())


def test_a_port_on_which_nobody_listens_is_a_failure():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        error = failure(Sender(LAX), url)
    assert str(error) == "The receiver cannot be reached."


# To whom.


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER])
def test_a_name_with_a_forbidden_address_is_refused_for_now(address):
    network = Network()
    error = failure(sender(network, Names([address])))
    assert "may not go to" in str(error)
    assert address not in str(error)
    assert not error.final
    assert network.connected == []


@pytest.mark.parametrize("addresses", [[PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC]])
def test_a_name_with_a_public_and_a_private_address_is_refused(addresses):
    network = Network()
    assert "may not go to" in str(failure(sender(network, Names(addresses))))
    assert network.connected == []


def test_a_name_that_changes_its_address_gains_nothing():
    network, names = Network(), Names([PUBLIC], ["10.0.0.1"])
    error = failure(sender(network, names), times=2)
    assert "may not go to" in str(error)
    assert names.asked == ["receiver.example"] * 2
    assert network.connected == [(PUBLIC, 80)]


def test_what_is_connected_to_is_the_address_and_not_the_name():
    network = Network()
    uvloop.run(deliver(sender(network), "http://receiver.example:8080/"))
    assert network.connected == [(PUBLIC, 8080)]
    assert b"\r\nHost: receiver.example:8080\r\n" in network.streams[0].written


def test_a_url_that_is_not_allowed_is_refused_for_good_and_not_looked_up():
    network, names = Network(), Names([PUBLIC])
    error = failure(sender(network, names), "http://169.254.169.254/latest/meta-data/")
    assert error.final
    assert isinstance(error.__cause__, WebhookAddressError)
    assert names.asked == network.connected == []


def test_a_name_without_an_address_is_a_failure_for_now():
    for names in (Names(socket.gaierror(socket.EAI_NONAME, "unknown")), Names([])):
        error = failure(sender(Network(), names))
        assert str(error) == "The receiver's host name has no address."
        assert not error.final


def test_the_next_address_is_tried_if_one_does_not_answer():
    dead = ["2606:4700:4700::1111", "8.8.8.8"]
    network = Network(dead=dead)
    uvloop.run(deliver(sender(network, Names([*dead, PUBLIC]))))
    assert network.connected == [(address, 80) for address in (*dead, PUBLIC)]


def test_if_no_address_answers_the_delivery_fails():
    network = Network(dead=["8.8.8.8", PUBLIC])
    assert "in time" in str(failure(sender(network, Names(["8.8.8.8", PUBLIC]))))
    assert len(network.connected) == 2


def test_an_ipv6_address_keeps_its_brackets_in_the_host_header():
    network, url = Network(), "http://[2606:4700:4700::1111]:8080/"
    uvloop.run(deliver(sender(network, Names(["2606:4700:4700::1111"])), url))
    assert b"\r\nHost: [2606:4700:4700::1111]:8080\r\n" in network.streams[0].written


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    network = Network()
    uvloop.run(deliver(sender(network)))
    assert network.connected == [(PUBLIC, 80)]


def test_names_are_looked_up_as_this_machine_does():
    async def look_up(*hosts: str) -> list[Sequence[str]]:
        resolver = Resolver()
        try:
            return [await resolver.resolve(host) for host in hosts]
        finally:
            resolver.close()

    literal, odd, name = uvloop.run(look_up("1.1.1.1", "0x7f.1", "localhost"))
    assert (literal, odd) == (["1.1.1.1"], ["127.0.0.1"])
    assert name
    assert set(name) <= {"127.0.0.1", "::1"}


def test_a_name_server_that_does_not_answer_keeps_nothing_but_its_own_threads(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(10) and [])

    async def talk():
        slow = Sender(STRICT, timeout_s=0.01, ssl_context=NO_TLS)
        urls = [f"http://{number}.example/" for number in range(50)]
        tries = (slow.send(url, "msg_1", 1, BODY, SECRET) for url in urls)
        errors = await asyncio.gather(*tries, return_exceptions=True)
        await asyncio.wait_for(asyncio.to_thread(lambda: None), 5)
        assert not answered.is_set()
        await slow.aclose()
        return errors

    try:
        errors = uvloop.run(talk())
    finally:
        answered.set()
    assert {str(error) for error in errors} == {"The receiver did not answer in time."}


# What is made of the answer.


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_success(status):
    network = Network(answer(status))
    uvloop.run(deliver(sender(network)))
    assert [stream.closed for stream in network.streams] == [True]


@pytest.mark.parametrize("status", [400, 404, 429, 500, 502, 503])
def test_another_status_is_a_failure_for_now(status):
    error = failure(sender(Network(answer(status))))
    assert str(error) == f"The receiver answered {status}."
    assert not error.final


def test_a_receiver_that_is_gone_is_not_asked_again():
    error = failure(sender(Network(answer(410))))
    assert "410" in str(error)
    assert error.final


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
@pytest.mark.parametrize("target", ["http://10.0.0.1/", "http://169.254.169.254/", URL])
def test_a_redirect_is_not_followed(status, target):
    network = Network(answer(status, f"Location: {target}"))
    error = failure(sender(network))
    assert str(error) == f"The receiver answered {status}; redirects are not followed."
    assert not error.final
    assert network.connected == [(PUBLIC, 80)]


def test_an_informational_answer_is_not_the_answer():
    uvloop.run(deliver(sender(Network(b"HTTP/1.1 103 Early Hints\r\n\r\n", answer(200)))))


def test_the_body_of_an_answer_is_not_waited_for():
    for then in ("flood", "silence"):
        network = Network(b"HTTP/1.1 200 OK\r\n\r\n", then=then)
        uvloop.run(deliver(sender(network)))
        assert [(stream.reads, stream.closed) for stream in network.streams] == [(1, True)]


def test_headers_without_end_are_a_failure():
    network = Network(b"HTTP/1.1 200 OK\r\nA: ", then="flood")
    assert "not HTTP" in str(failure(sender(network)))
    assert network.streams[0].reads < 5


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\0\1\2\r\n\r\n",
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_http_is_a_failure(said):
    assert str(failure(sender(Network(said)))) == "The receiver's answer is not HTTP."


def test_a_connection_that_breaks_is_a_failure():
    network = Network(httpcore2.ReadError("10.0.0.1 hush"))
    assert str(failure(sender(network))) == "The connection to the receiver broke."
    network = Network(ssl.SSLError(1, "bad record"))
    assert str(failure(sender(network))) == "The receiver does not speak TLS as it should."


# How long it may take.


class Silence(Resolver, httpcore2.AsyncNetworkBackend):
    """Neither looks up nor connects, for ever."""

    async def resolve(self, host: str) -> list[str]:
        return await asyncio.Event().wait()

    async def connect_tcp(self, *args, **options) -> httpcore2.AsyncNetworkStream:
        return await asyncio.Event().wait()


@pytest.mark.parametrize("part", ["name", "connection", "answer", "headers"])
def test_all_of_a_delivery_shares_one_bound_on_its_time(part):
    silence = Silence()
    names = silence if part == "name" else Names([PUBLIC])
    chunks = [b"HTTP/1.1 200 OK\r\nA: "] if part == "headers" else [b"HTTP"]
    network = silence if part == "connection" else Network(*chunks, then="silence")
    error = failure(sender(network, names, timeout_s=0.01))
    assert str(error) == "The receiver did not answer in time."
    assert not error.final
    if isinstance(network, Network):
        assert all(stream.closed for stream in network.streams)


def test_a_receiver_that_does_not_answer_keeps_no_other_waiting():
    class Mixed(Network):
        async def connect_tcp(self, host, *args, **options):
            other = Silence() if host == "8.8.8.8" else super()
            return await other.connect_tcp(host, *args, **options)

    async def talk():
        mixed = sender(Mixed(), Names(*[["8.8.8.8"]] * 20, [PUBLIC]))
        slow = [asyncio.create_task(mixed.send(URL, "msg_1", 1, BODY, SECRET)) for _ in range(20)]
        await asyncio.sleep(0)
        await deliver(mixed)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    uvloop.run(asyncio.wait_for(talk(), 5))


def test_a_delivery_that_is_cancelled_closes_its_connection():
    network = Network(b"HTTP", then="silence")

    async def cancel():
        task = asyncio.create_task(deliver(sender(network)))
        while not (network.streams and network.streams[0].reads == 2):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    uvloop.run(cancel())
    assert network.streams[0].closed


def test_a_secret_that_cannot_be_read_is_not_the_receivers_fault():
    network = Network()
    with pytest.raises(WebhookSecretError):
        uvloop.run(sender(network).send(URL, "msg_1", 1, BODY, "hush"))
    assert network.connected == []


@given(
    st.sampled_from(["", ":1", "/", "?"]),
    st.text(alphabet="ab.:/?&;%[]@0=_-~!$'()*+,|{}\"<>^`\\"),
)
def test_every_url_that_is_allowed_can_be_sent_to(start, rest):
    url = f"http://receiver.example{start}{rest}"
    try:
        STRICT.check_url(url)
    except WebhookAddressError:
        assert not start.startswith(("/", "?"))
        return
    network = Network()
    uvloop.run(deliver(sender(network, ssl_context=NO_TLS), url))
    assert len(network.connected) == 1


# TLS.


def tls(names: list[str]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context with a certificate for these names, and a client's to trust it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def deliver_by_tls(names: list[str], client: ssl.SSLContext | None = None, host="") -> int:
    server, trusting = tls(names)
    async with receiving(tls=server) as receiver:
        to = Sender(LAX, resolver=Names(["127.0.0.1"]), ssl_context=client or trusting)
        await deliver(to, f"https://{host or 'receiver.example'}:{receiver.port}/")
        return len(receiver.received)


def test_the_certificate_is_asked_for_the_name_though_the_address_is_connected_to():
    assert uvloop.run(deliver_by_tls(["receiver.example"])) == 1


@pytest.mark.parametrize("names", [["other.example"], ["127.0.0.1"]])
def test_a_certificate_for_another_name_is_refused(names):
    with pytest.raises(DeliveryError, match=r"not accepted: Hostname mismatch.*example'\.$"):
        uvloop.run(deliver_by_tls(names))


def test_a_certificate_of_an_authority_that_is_not_trusted_is_refused():
    untrusting = httpcore2.default_ssl_context()
    with pytest.raises(DeliveryError, match="certificate is not accepted"):
        uvloop.run(deliver_by_tls(["receiver.example"], untrusting))


def test_an_address_in_the_url_is_asked_for_in_the_certificate():
    assert uvloop.run(deliver_by_tls(["127.0.0.1"], host="127.0.0.1")) == 1
    with pytest.raises(DeliveryError, match="certificate is not accepted"):
        uvloop.run(deliver_by_tls(["receiver.example"], host="127.0.0.1"))


def test_a_receiver_without_tls_is_a_failure():
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def talk():
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await deliver(Sender(LAX), f"https://127.0.0.1:{port}/")

    with pytest.raises(DeliveryError, match="does not speak TLS"):
        uvloop.run(talk())
