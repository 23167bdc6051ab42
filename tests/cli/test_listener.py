"""The socket that clients connect to."""

import asyncio
import socket

import pytest

from hidream_server.cli.listener import bind
from hidream_server.errors import ConfigurationError, PortTakenError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_a_free_port_is_listened_on():
    port = free_port()
    with bind("127.0.0.1", port) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_port_can_be_opened_again_at_once_after_a_server_has_gone():
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = listener.accept()
        accepted.close()
        client.recv(1)
        client.close()
    bind("127.0.0.1", port).close()


def test_a_taken_port_is_refused_with_the_next_one_as_the_way_out():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            bind("127.0.0.1", port)
    message = str(caught.value)
    assert f"Port {port}" in message
    assert f"--port {port + 1}" in message
    assert "\n" not in message


def test_the_last_port_has_no_next_one(monkeypatch):
    def taken(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket.socket, "bind", taken)
    with pytest.raises(PortTakenError) as caught:
        bind("127.0.0.1", 65535)
    assert "65536" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError(99, "Cannot assign requested address"),
        socket.gaierror(-2, "Name or service not known"),
    ],
    ids=["address", "name"],
)
def test_a_host_that_is_not_this_machine_is_not_blamed_on_the_port(monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket.socket, "bind", fail)
    with pytest.raises(ConfigurationError) as caught:
        bind("elsewhere.example", 8088)
    assert not isinstance(caught.value, PortTakenError)
    assert "elsewhere.example" in str(caught.value)
    assert error.strerror in str(caught.value)


def test_a_port_that_may_not_be_opened_is_not_called_taken(monkeypatch):
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(ConfigurationError) as caught:
        bind("127.0.0.1", 80)
    assert not isinstance(caught.value, PortTakenError)
    assert "Port 80" in str(caught.value)
    assert "Permission denied" in str(caught.value)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_listened_on():
    try:
        listener = bind("::1", 0)
    except ConfigurationError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        assert listener.family is socket.AF_INET6


def test_answers_leave_at_once():
    """A small answer after a small answer must not wait for the other side's acknowledgement."""

    async def main() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            accepted.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bind("127.0.0.1", 0)
        async with await asyncio.start_server(serve, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            no_delay = await asyncio.wait_for(accepted, 30)
            writer.close()
            await writer.wait_closed()
        return no_delay

    assert asyncio.run(main()) != 0
