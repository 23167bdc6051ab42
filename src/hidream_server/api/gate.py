"""Lets nobody in without a key, once there are keys: all that is not named here is closed.

Knows who asks; what they may see of tasks is the routes' business.
"""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from hidream_server.api.access import ANYBODY, Caller
from hidream_server.api.errors import answer
from hidream_server.api.keyring import Keyring, LinkSigner
from hidream_server.api.links import signed_part
from hidream_server.api.paths import route_path
from hidream_server.errors import (
    ForbiddenError,
    HiDreamError,
    StoreUnavailableError,
    UnauthorizedError,
)
from hidream_server.keys import Scope as KeyScope

#: Answered without a key, whatever happens to the database.
OPEN = frozenset({"/", "/studio", "/studio/", "/livez", "/readyz", "/health"})
#: What the page is made of; it asks for a key by itself.
_OPEN_FOLDER = "/studio/"
#: Only for those who may see everything.
ADMIN = frozenset({"/metrics"})
#: Where a signed link does instead of a key.
_SIGNED = ("/images/", "/preview/")


class Gate:
    """Says of each request who asks, or refuses it."""

    def __init__(self, app: ASGIApp, keyring: Keyring, signer: LinkSigner) -> None:
        self._app = app
        self._keyring = keyring
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            try:
                request.state.caller = await self._caller(request)
                # Not with the request: in a circle both would wait for the garbage collector.
                request.state.gate = self
            except HiDreamError as error:
                await answer(request, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def is_still_allowed(self, request: Request) -> bool:
        """Tell whether who was let in would be let in now; for answers that take long."""
        try:
            return bool(await self._caller(request) == request.state.caller)
        except StoreUnavailableError:
            return True
        except HiDreamError:
            return False

    async def _caller(self, request: Request) -> Caller:
        path = route_path(request.scope)
        if path in OPEN or path.startswith(_OPEN_FOLDER):
            return ANYBODY
        if await self._keyring.is_open():
            return Caller(client=request.client.host if request.client else "")
        if request.method in ("GET", "HEAD") and self._is_signed(request, path):
            return ANYBODY
        text = _key_text(request)
        key = await self._keyring.find(text)
        if key is None:
            raise UnauthorizedError(_why_not(request, text))
        if path in ADMIN and key.scope is not KeyScope.ADMIN:
            raise ForbiddenError
        return Caller(client=key.id, is_admin=key.scope is KeyScope.ADMIN, key=key)

    def _is_signed(self, request: Request, path: str) -> bool:
        if not path.startswith(_SIGNED):
            return False
        # As the routes read it: of a name that comes twice the last counts.
        query = request.query_params
        index = query.get("image_index", "")
        # Which picture is signed, not how it is to be encoded.
        signed = signed_part(f"{path}?image_index={index}" if index else path)
        return self._signer.holds(signed, query.get("expires", ""), query.get("signature", ""))


def _why_not(request: Request, key_text: str) -> str | None:
    """Say what is wrong with what was shown; nothing of it is given back."""
    if key_text:
        return "This API key is not known here, or was revoked."
    if "signature" in request.query_params:
        return "This link is not right, or not good any more: ask for the status again."
    return None


def _key_text(request: Request) -> str:
    """Return the key that a request carries: as bearer, or in a header of its own."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip()
    return request.headers.get("x-api-key", "").strip()
