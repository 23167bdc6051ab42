"""Counts and times every request, and the submissions that were refused.

Pure ASGI: it passes messages on as they are, so that streams stay streams.
"""

import time

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hidream_server.metrics.metrics import Metrics

#: Routes by which tasks are submitted; what they refuse is counted with what becomes of tasks.
SUBMISSIONS = frozenset(
    {
        "/submit",
        "/batch_submit",
        "/tasks/{task_id}/retry",
        "/v1/images/generations",
        "/v1/batches",
    }
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The label of what a client made up, of which there may be any number.
_OTHER = "other"


class Measuring:
    """A middleware that tells the metrics of each answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        since = time.perf_counter()
        # Where an error left no answer.
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._tell(scope, status, time.perf_counter() - since)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        # Only the router knows it, and leaves it here.
        route = scope.get("route")
        template = route.path_format if isinstance(route, APIRoute) else _OTHER
        self._metrics.http.answered(method, template, status, seconds)
        state = scope.get("state", {})
        refused = status >= 400 and not state.get("accepted", False)
        if method == "POST" and template in SUBMISSIONS and refused:
            self._metrics.tasks.refused(state.get("error_code", "internal"))


def note_accepted(request: Request) -> None:
    """Let the metrics know that a submission was accepted, whatever is answered in the end."""
    request.state.accepted = True


def note_error(request: Request, code: str) -> None:
    """Let the metrics know with which error a request is answered."""
    request.state.error_code = code
