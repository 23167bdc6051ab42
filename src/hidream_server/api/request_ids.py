"""Every request has an id: in its answer, and on each line that is logged while it is served."""

import re
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hidream_server.logs import log_context

_HEADER = b"x-request-id"
#: What is taken over from a request: nothing that could be read as more than a word in a log.
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def new_request_id() -> bytes:
    return uuid4().hex.encode()


class RequestIds:
    """Takes a request's id over from its header, or makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        request_id = given if _ID.fullmatch(given) else new_request_id()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_HEADER, request_id)]
            await send(message)

        with log_context(request=request_id.decode()):
            await self._app(scope, receive, send_with_id)
