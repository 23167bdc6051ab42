"""Which addresses a webhook may go to. Knows text only; names are looked up in `connections`.

A server that sends wherever its clients say must not lend them what only it can reach:
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import SplitResult, urlsplit

from hidream_server.errors import WebhookAddressError

MAX_URL_CHARS = 2048

_Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Spelled out rather than asked of `ipaddress`: its `is_global` changes with Python's patch
# versions, holds for multicast, and knows nothing of addresses inside others.
# https://www.iana.org/assignments/iana-ipv4-special-registry
# https://www.iana.org/assignments/iana-ipv6-special-registry

#: Of IPv6 only this is assigned as global unicast. Outside lie the forms that carry an IPv4 address
#: (mapped ::ffff:0:0/96, compatible ::/96, NAT64 64:ff9b::/96 and 64:ff9b:1::/48), link-local
#: fe80::/10, site-local fec0::/10, multicast ff00::/8.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
#: This machine and local networks; allowed where the server's owner says so.
_PRIVATE = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # shared by carriers, used by overlay networks
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
)
_NEVER = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",  # link-local; clouds answer questions about the machine here
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # relays to 6to4
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved; broadcast
    "2001::/23",  # protocol assignments, benchmarking, and Teredo, which carries IPv4 addresses
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4, which carries IPv4 addresses
    "3fff::/20",  # documentation
    # Where clouds answer questions about the machine, outside of link-local:
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254/128",  # Google
)

_PRINTABLE = re.compile(r"[!-~]*")
#: In its last label a host that getaddrinfo may take for an IPv4 address, in whatever spelling.
_ENDS_IN_NUMBER = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)$")
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")

_A_HOST = "a URL with a host name, or an IP address in its usual spelling"
_A_PUBLIC_HOST = "a host that has public addresses only"


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The rule of one server."""

    #: This machine and private networks are allowed, too.
    allow_private: bool = False

    def require_allowed(self, address: str) -> None:
        """Raise WebhookAddressError unless webhooks may go to this IP address.

        A text in another spelling than the usual one, or with a zone, is no address.
        """
        try:
            ip = ip_address(address)
        except ValueError:
            raise WebhookAddressError(_A_HOST) from None
        if "%" in address:
            raise WebhookAddressError(_A_HOST)
        if not self._allows(ip):
            raise WebhookAddressError(_A_PUBLIC_HOST)

    def _allows(self, ip: IPv4Address | IPv6Address) -> bool:
        if any(ip in network for network in _NEVER):
            return False
        if any(ip in network for network in _PRIVATE):
            return self.allow_private
        return ip.version == 4 or ip in _GLOBAL_IPV6

    def check_url(self, url: str) -> None:
        """Raise WebhookAddressError for a URL that can be refused without looking up its host.

        A host name is no promise: it may have an address that is not allowed.
        """
        for allowed in _form_problems(url):
            raise WebhookAddressError(allowed)
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.netloc.startswith("[") or _ENDS_IN_NUMBER.search(host):
            self.require_allowed(host)
        elif not _HOST_NAME.fullmatch(host):
            raise WebhookAddressError(_A_HOST)
        elif not self.allow_private and (host == "localhost" or host.endswith(".localhost")):
            raise WebhookAddressError(_A_PUBLIC_HOST)


def _form_problems(url: str) -> Iterator[str]:
    """Yield what would be allowed instead of this URL, whichever its host."""
    if len(url) > MAX_URL_CHARS:
        yield f"a URL of at most {MAX_URL_CHARS} characters, this has {len(url)}"
    if not _PRINTABLE.fullmatch(url):
        yield "a URL of printable ASCII characters, others percent-encoded or in Punycode (xn--)"
    try:
        parts = urlsplit(url)
    except ValueError:
        yield _A_HOST
        return
    if parts.scheme not in ("http", "https"):
        yield "an http or https URL"
    if "@" in parts.netloc:
        yield "a URL without user name and password"
    if "#" in url:
        yield "a URL without a fragment"
    if not _has_good_port(parts):
        yield "a URL with a port from 1 to 65535, or with none"


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        return False
