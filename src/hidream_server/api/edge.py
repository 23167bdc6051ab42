"""What stands around the app: every request passes it first, every answer last.

It is outside of the handling of errors, so that their answers are like all others.
"""

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hidream_server.api.errors import answer, body_too_large
from hidream_server.api.measuring import Measuring
from hidream_server.api.request_ids import RequestIds
from hidream_server.api.security_headers import SecurityHeaders
from hidream_server.metrics.metrics import Metrics
from hidream_server.settings import Settings


def surround(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Put everything around the app that concerns every request."""
    plain = app.build_middleware_stack

    def build() -> ASGIApp:
        inner = plain()
        stack: ASGIApp = _BoundedBodies(inner, settings)
        if settings.cors_origins is not None:
            stack = _cors(stack, settings.cors_origins.split(","))
        stack = Measuring(RequestIds(SecurityHeaders(stack)), metrics)
        if settings.root_path is not None:
            stack = _RootPath(stack, settings.root_path)

        async def edge(scope: Scope, receive: Receive, send: Send) -> None:
            # What is said when the server starts and ends is no request.
            await (stack if scope["type"] == "http" else inner)(scope, receive, send)

        return edge

    app.build_middleware_stack = build  # type: ignore[method-assign]


def _cors(app: ASGIApp, origins: list[str]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE"),
        allow_headers=(
            *("Authorization", "X-API-Key", "Content-Type"),
            *("Idempotency-Key", "Last-Event-ID", "X-Request-ID"),
        ),
        expose_headers=("X-Request-ID", "Retry-After", "X-Should-Retry"),
    )


class _BoundedBodies:
    """Refuses bodies that say that they are too large, and counts those that do not say.

    FastAPI's own bound answers what is declared in a shape of its own.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._most = settings.max_body_mb * 2**20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope["headers"]:
            # The parser of HTTP has made sure that it is a number, and true.
            if name == b"content-length" and int(value) > self._most:
                refusal = answer(Request(scope), body_too_large(self._settings))
                return await refusal(scope, receive, send)
            if name == b"transfer-encoding":
                receive = self._counted(receive)
        return await self._app(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def receive_counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most:
                # Of all errors FastAPI lets only this kind pass where it reads a body.
                raise HTTPException(413)
            return message

        return receive_counted


class _RootPath:
    """Lets a proxy serve this server under a path, which it may strip from requests or not."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root, path = self._root_path, scope["path"]
        scope["root_path"] = root
        if path != root and not path.startswith(f"{root}/"):
            scope["path"] = root + path
            scope["raw_path"] = root.encode() + scope["raw_path"]
        await self._app(scope, receive, send)
