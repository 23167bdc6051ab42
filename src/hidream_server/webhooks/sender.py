"""Delivers one signed message to one receiver, once. Knows nothing of tasks and of further tries.

No redirects, no cookies, no proxies from the environment: they would lead past the checks.
"""

import asyncio
import ssl
from urllib.parse import SplitResult, urlsplit

import httpcore2

from hidream_server import __version__
from hidream_server.errors import DeliveryError, WebhookAddressError
from hidream_server.webhooks.addresses import AddressPolicy
from hidream_server.webhooks.connections import CheckedNetwork, Resolver
from hidream_server.webhooks.signing import sign

#: How much of the time one address may take to answer; within the rest the next one is tried.
_CONNECT_SHARE = 0.5
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"hidream-server/{__version__}"}


class Sender:
    """Sends messages; each has a connection of its own."""

    def __init__(
        self,
        policy: AddressPolicy,
        timeout_s: float = 10.0,
        resolver: Resolver | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """A delivery takes `timeout_s` at most, from looking up the name to the answer's status."""
        self._policy = policy
        self._timeout_s = timeout_s
        self._resolver = resolver or Resolver()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or httpcore2.default_ssl_context(),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=CheckedNetwork(
                policy, self._resolver, network or httpcore2.AnyIOBackend()
            ),
        )

    async def send(self, url: str, message_id: str, at_s: int, body: bytes, secret: str) -> None:
        """Return once the receiver has accepted a message, with any 2xx.

        Raises DeliveryError, which says whether another try is useless, for everything that the
        receiver or the network can do; and WebhookSecretError.
        """
        headers = _HEADERS | sign(secret, message_id, at_s, body)
        try:
            self._policy.check_url(url)
        except WebhookAddressError as error:
            raise DeliveryError(str(error), final=True) from error
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._post(urlsplit(url), headers, body)
        except (TimeoutError, httpcore2.TimeoutException) as error:
            raise DeliveryError("The receiver did not answer in time.") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            raise DeliveryError(_reason(error)) from error
        _require_success(status)

    async def aclose(self) -> None:
        """Call this when nothing is being sent any more."""
        await self._pool.aclose()
        self._resolver.close()

    async def _post(self, url: SplitResult, headers: dict[str, str], body: bytes) -> int:
        """Return the status of the answer.

        Its body is not read: the status says all, and a body may have no end.
        """
        target = httpcore2.URL(
            scheme=url.scheme,
            host=url.hostname or "",
            port=url.port,
            target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        )
        async with self._pool.stream(
            "POST",
            target,
            # Host by ourselves: an IPv6 address needs its brackets there.
            headers=[("Host", url.netloc), *headers.items()],
            content=body,
            extensions={"timeout": {"connect": self._timeout_s * _CONNECT_SHARE}},
        ) as response:
            return response.status


def _require_success(status: int) -> None:
    if 200 <= status < 300:
        return
    if status == 410:
        raise DeliveryError("The receiver answered 410: it wants no more messages.", final=True)
    if 300 <= status < 400:
        raise DeliveryError(f"The receiver answered {status}; redirects are not followed.")
    raise DeliveryError(f"The receiver answered {status}.")


def _reason(error: Exception) -> str:
    """Say what went wrong, with no word of the receiver's own and no address."""
    # httpcore2 puts the error that it translates into its own.
    cause = error if isinstance(error, ssl.SSLError) else next(iter(error.args), None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"The receiver's certificate is not accepted: {cause.verify_message.rstrip('.')}."
    if isinstance(cause, ssl.SSLError):
        return "The receiver does not speak TLS as it should."
    if isinstance(error, httpcore2.ProtocolError):
        return "The receiver's answer is not HTTP."
    if isinstance(error, httpcore2.ConnectError):
        return "The receiver cannot be reached."
    return "The connection to the receiver broke."
