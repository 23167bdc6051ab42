"""Addresses and URLs that a webhook may go to, and the many spellings of those that it may not."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidream_server.errors import WebhookAddressError
from hidream_server.webhooks.addresses import MAX_URL_CHARS, AddressPolicy

STRICT, LAX = AddressPolicy(), AddressPolicy(allow_private=True)

#: Allowed only where the server's owner says so.
PRIVATE = [
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "::1",
    "fc00::1",
    "fd12:3456:789a::1",
]
#: Never allowed.
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "100.100.100.200",  # Alibaba Cloud's metadata
    "168.63.129.16",  # Azure's
    "169.254.0.1",
    "169.254.169.254",  # that of most clouds
    "169.254.170.2",  # containers' credentials
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",  # IPv4-compatible
    "::8.8.8.8",
    "::ffff:127.0.0.1",  # IPv4-mapped
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "0:0:0:0:0:ffff:0a00:0001",
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "64:ff9b::127.0.0.1",  # NAT64
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::10.0.0.1",
    "100::1",
    "2001::1",  # Teredo
    "2001:0:a9fe:a9fe::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",  # AWS's metadata
    "fd20:ce::254",  # Google's
    "fe80::1",
    "fe80::1%eth0",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2606:4700:4700::1111%eth0",
]
#: Spellings that getaddrinfo or a lax parser would take for an address.
ODD = [
    "0",
    "1",
    "2130706433",  # 127.0.0.1
    "134744072",  # 8.8.8.8
    "0x7f000001",
    "0X7F000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "127.1",
    "127.0.1",
    "10.1",
    "8.8.8",
    "127.0.0.1.",
    "127.0.0.256",
    "1.2.3.4.5",
    "169.254.43518",
    "0xa9fea9fe",
    "0xa9.0xfe.0xa9.0xfe",
    "%31%32%37.0.0.1",
    "0x",
    "host.1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "93.184.215.14",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "172.15.255.255",
    "172.32.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2400:cb00::1",
    "2606:4700:4700::1111",
]

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


def refused(policy: AddressPolicy, address: str) -> bool:
    try:
        policy.require_allowed(address)
    except WebhookAddressError:
        return True
    return False


def problem(url: str, policy: AddressPolicy = STRICT) -> str:
    """Return what the refusal of this URL says is allowed."""
    with pytest.raises(WebhookAddressError) as caught:
        policy.check_url(url)
    assert caught.value.allowed in str(caught.value)
    return caught.value.allowed


def in_url(host: str) -> str:
    return f"http://[{host}]/" if ":" in host else f"http://{host}/"


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    for policy in (STRICT, LAX):
        policy.require_allowed(address)
        policy.check_url(in_url(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_allowed_only_where_the_owner_says_so(address):
    assert refused(STRICT, address)
    assert "public" in problem(in_url(address))
    LAX.require_allowed(address)
    LAX.check_url(in_url(address))


@pytest.mark.parametrize("policy", [STRICT, LAX], ids=["strict", "lax"])
@pytest.mark.parametrize("address", NEVER)
def test_special_addresses_are_never_allowed(address, policy):
    assert refused(policy, address)
    problem(in_url(address), policy)


@pytest.mark.parametrize("policy", [STRICT, LAX], ids=["strict", "lax"])
@pytest.mark.parametrize("host", ODD)
def test_odd_spellings_of_addresses_are_never_allowed(host, policy):
    assert refused(policy, host)
    assert "usual spelling" in problem(in_url(host), policy)


@given(st.one_of(V4, V6))
def test_what_the_standard_library_knows_as_special_is_refused(ip: IPv4Address | IPv6Address):
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_link_local:
        assert refused(STRICT, str(ip))


@given(V4)
def test_no_address_is_allowed_inside_of_another(ip: IPv4Address):
    number = int(ip)
    for text in (
        f"::{ip}",
        f"::ffff:{ip}",
        f"::ffff:0:{ip}",
        f"64:ff9b::{ip}",
        f"64:ff9b:1::{ip}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
        f"2001:0:{number >> 16:x}:{number & 0xFFFF:x}::1",
        f"2001::{number >> 16:x}:{number & 0xFFFF:x}",
    ):
        if IPv6Address(text) != IPv6Address("::1"):
            assert refused(LAX, text)
        assert refused(STRICT, text)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "HTTPS://EXAMPLE.COM/Hooks",
        "http://example.com:8080/a/b;c=1?d=e&f=%20",
        "https://example.com:1/",
        "https://example.com:65535/",
        "https://xn--fiqs8s.xn--fiqs8s/",
        "https://_hooks.example.com/",
        "https://localhost.example.com/",
        "https://notlocalhost/",
        "https://1.example.com/",
        "https://1.1.1.1:8443/hooks",
        "https://[2606:4700:4700::1111]:8443/hooks",
        "https://example.com/?at=user@example.com",
        "https://example.com/" + "a" * (MAX_URL_CHARS - 20),
    ],
)
def test_http_urls_of_hosts_are_allowed(url):
    STRICT.check_url(url)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("", "http or https"),
        ("example.com/hooks", "http or https"),
        ("//example.com/", "http or https"),
        ("ftp://example.com/", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("gopher://example.com/", "http or https"),
        ("javascript:alert(1)", "http or https"),
        ("http:", "host name"),
        ("http://", "host name"),
        ("http:///path", "host name"),
        ("http://?a", "host name"),
        ("http:example.com", "host name"),
        ("http://:80/", "host name"),
        ("http://user@example.com/", "user name and password"),
        ("http://user:password@example.com/", "user name and password"),
        ("http://@example.com/", "user name and password"),
        ("http://example.com\\@127.0.0.1/", "user name and password"),
        ("http://example.com/#", "fragment"),
        ("http://example.com#@127.0.0.1/", "fragment"),
        ("http://example.com:0/", "port"),
        ("http://example.com:65536/", "port"),
        ("http://example.com:/", "port"),
        ("http://example.com:http/", "port"),
        ("http://example.com:-1/", "port"),
        ("http://example.com:80:80/", "port"),
        ("http://::1/", "port"),
        ("http://[::1/", "host name"),
        ("http://[v1.example]/", "host name"),
        ("http://[example.com]/", "host name"),
        ("http://[1.1.1.1]/", "host name"),
        ("http://[fe80::1%25eth0]/", "host name"),
        ("http://example..com/", "host name"),
        ("http://example.com./", "host name"),
        ("http://.example.com/", "host name"),
        ("http://-example.com/", "host name"),
        ("http://example-.com/", "host name"),
        ("http://ex*mple.com/", "host name"),
        ("http://example.com\\.evil/", "host name"),
        ("http://" + "a" * 64 + ".com/", "host name"),
        ("http://" + "a." * 127 + "com/", "host name"),
        ("http://exa mple.com/", "ASCII"),
        (" http://example.com/", "ASCII"),
        ("http://example.com/\n", "ASCII"),
        ("http://exam\tple.com/", "ASCII"),
        ("http://example.com/\r\nHost: evil", "ASCII"),
        ("http://例子.com/", "ASCII"),
        ("http://127。0。0。1/", "ASCII"),
        ("http://①②⑦.0.0.1/", "ASCII"),
        ("http://example.com/图", "ASCII"),
        ("http://example.com/" + "a" * (MAX_URL_CHARS - 18), "2048 characters, this has 2049"),
    ],
)
def test_a_url_of_another_form_is_refused_with_what_is_allowed(url, allowed):
    for policy in (STRICT, LAX):
        assert allowed in problem(url, policy)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "a.localhost", "a.b.LocalHost"])
def test_localhost_is_allowed_only_where_private_addresses_are(host):
    assert "public" in problem(f"http://{host}:8080/")
    LAX.check_url(f"http://{host}:8080/")


@given(st.text(), st.text(alphabet=":/@[]%?#.0127afx\\"), st.text())
def test_whatever_the_text_it_is_allowed_or_refused_and_no_other_error(start, middle, end):
    for url in (start + middle + end, "http://" + middle + end, f"http://a{middle}"):
        with suppress(WebhookAddressError):
            STRICT.check_url(url)
