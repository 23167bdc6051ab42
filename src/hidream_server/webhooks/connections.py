"""Connections to receivers, made only to addresses that were checked.

What is connected to is the very address that was checked, so a name that changes its addresses
between the two (DNS rebinding) gains nothing. TLS still asks for the name.
"""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpcore2

from hidream_server.errors import DeliveryError, WebhookAddressError
from hidream_server.webhooks.addresses import AddressPolicy

#: Names that are looked up at once.
_LOOK_UPS = 8


class Resolver:
    """Looks up names as this machine does, in threads of its own.

    A name server that clients may choose can be slow; the event loop's threads do not wait for it.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOK_UPS, "webhook-names")

    async def resolve(self, host: str) -> list[str]:
        """Return the addresses of a host, the best first; raise OSError if it has none."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _look_up, host)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to a host if all of its addresses are allowed."""

    def __init__(
        self, policy: AddressPolicy, resolver: Resolver, network: httpcore2.AsyncNetworkBackend
    ) -> None:
        """`network` makes the connections; it is only given addresses, never names."""
        self._policy = policy
        self._resolver = resolver
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers, each within `timeout` seconds.

        Raises DeliveryError for a host with no address, or one that is not allowed, and httpcore2's
        errors if none answers.
        """
        failure: Exception | None = None
        for address in await self._checked(host):
            try:
                return await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def _checked(self, host: str) -> Sequence[str]:
        """Return the addresses of a host, all of which are allowed.

        Neither refusal is final, for a name may be given other addresses. Neither names an address:
        whoever chose the name could read from it how the network behind this server looks.
        """
        try:
            addresses = await self._resolver.resolve(host)
        except OSError:
            addresses = []
        if not addresses:
            raise DeliveryError("The receiver's host name has no address.")
        try:
            for address in addresses:
                self._policy.require_allowed(address)
        except WebhookAddressError:
            raise DeliveryError(
                "The receiver's host has an address that webhooks may not go to."
            ) from None
        return addresses
