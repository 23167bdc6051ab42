"""What browsers may do with answers, said on every answer. The policies of pages live here."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hidream_server.api.paths import route_path

#: For what is no page: data and pictures load nothing and stand in no frame.
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
#: For the pages of the documentation, which bring scripts and styles inside themselves.
_DOCUMENTATION = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; worker-src blob:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
#: For the page that people use: nothing but what this server has, and nothing written inside it.
_STUDIO = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: The policy of each page, by its path.
PAGES = {
    "/": _STUDIO,
    "/studio": _STUDIO,
    "/docs": _DOCUMENTATION,
    "/docs/oauth2-redirect": _DOCUMENTATION,
    "/redoc": _DOCUMENTATION,
}

_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


def security_headers(path: str = "") -> list[tuple[bytes, bytes]]:
    """Return the headers for an answer at this path, which is without the root path."""
    policy = PAGES.get(path, _NO_PAGE)
    return [*_ALWAYS, (b"content-security-policy", policy.encode())]


class SecurityHeaders:
    """Puts them on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Before routing, which may change what the scope says of the path.
        headers = security_headers(route_path(scope))

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_secured)
