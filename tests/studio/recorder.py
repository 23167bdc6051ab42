"""What pages ask for, and what a visitor's console would say of them. Knows no page."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (violation) => __reportViolation(
    `${violation.effectiveDirective} blocked ${violation.blockedURI} for `
    + `${violation.sourceFile}:${violation.lineNumber}`))
"""


class Transfer(NamedTuple):
    """An answer that has come as a whole; its size as it came, headers included."""

    url: str
    host: str
    size_bytes: int


class Recorder:
    """Writes down what happens in the contexts that it watches."""

    def __init__(self) -> None:
        #: Whatever was asked for, in order. Favicons are not among it: Playwright hides them.
        self.requests: list[str] = []
        #: Console errors, page errors, breaches of the CSP, requests to other hosts, crashes.
        self.complaints: list[str] = []
        self._finished: list[Request] = []
        self._allowed: list[str] = []

    def watch(self, context: BrowserContext, host: str) -> None:
        """Record a context whose pages may ask this host (with its port), and no other."""
        context.on("request", lambda request: self._request(request.url, host))
        context.on("requestfinished", lambda request: self._finished.append(request))
        context.on("console", self._console)
        context.on("weberror", lambda error: self._complain(f"page error: {error.error}"))
        context.on("page", self._page)
        context.expose_binding(
            "__reportViolation", lambda _, what: self._complain(f"CSP violation: {what}")
        )
        context.add_init_script(_REPORT_VIOLATIONS)

    def allow(self, pattern: str) -> None:
        """Let complaints pass in which this regular expression is found."""
        self._allowed.append(pattern)

    def check(self) -> None:
        """Raise if there was a complaint that is not allowed."""
        unexpected = [complaint for complaint in self.complaints if not self._is_allowed(complaint)]
        assert not unexpected, "\n".join(["a page complained:", *unexpected])

    def transfers(self) -> list[Transfer]:
        """Return what has been transferred so far; only while its pages are open."""
        return [
            Transfer(request.url, urlsplit(request.url).netloc, _size(request))
            for request in self._finished
        ]

    def _complain(self, complaint: str) -> None:
        self.complaints.append(complaint)

    def _is_allowed(self, complaint: str) -> bool:
        return any(re.search(pattern, complaint) for pattern in self._allowed)

    def _request(self, url: str, host: str) -> None:
        self.requests.append(url)
        # What a page makes itself (data:, blob:) has no host.
        if urlsplit(url).netloc not in ("", host):
            self._complain(f"request to another host: {url}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complain(f"console error: {message.text} ({message.location['url']})")

    def _page(self, page: Page) -> None:
        page.on("crash", lambda _: self._complain(f"crash of {page.url}"))


def _size(request: Request) -> int:
    sizes = request.sizes()
    return sizes["responseHeadersSize"] + sizes["responseBodySize"]
