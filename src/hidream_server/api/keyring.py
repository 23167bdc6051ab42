"""The API keys as HTTP asks for them: beside the loop, and not again for each request.

A key that is made or revoked counts within seconds, on all servers of its database.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import NamedTuple

from cachetools import TTLCache
from fastapi.concurrency import run_in_threadpool

from hidream_server.errors import StoreUnavailableError
from hidream_server.keys import ApiKey, is_key
from hidream_server.store.keys import KeyStore

#: What was found out is believed for so many seconds, while the database is away for longer: who
#: looks after the service wants to see it most of all then.
FRESH_S, _STALE_S = 3.0, 600.0
_MOST_KNOWN = 10_000


class _Known(NamedTuple):
    key: ApiKey | None
    at: float


class Keyring:
    """Knows which keys are good; belongs to one event loop."""

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._known: TTLCache[bytes, _Known] = TTLCache(_MOST_KNOWN, _STALE_S, clock)
        self._clock = clock
        self._is_open: bool | None = None
        self._looked_at = -FRESH_S

    async def is_open(self) -> bool:
        """Tell whether no key was ever made, so that everybody may do everything."""
        if self._is_open is None or self._clock() - self._looked_at >= FRESH_S:
            try:
                # Once there was a key it never is again.
                self._is_open = self._is_open is not False and not await run_in_threadpool(
                    self._store.count
                )
            except StoreUnavailableError:
                if self._is_open is None:
                    raise
            self._looked_at = self._clock()
        return self._is_open

    async def find(self, text: str) -> ApiKey | None:
        """Return the key that has this text, if it is good for something."""
        if not is_key(text):
            return None
        # The text itself is not kept.
        name = hashlib.sha256(text.encode()).digest()
        known = self._known.get(name)
        if known is None or self._clock() - known.at >= FRESH_S:
            try:
                found = await run_in_threadpool(self._store.find, text)
            except StoreUnavailableError:
                if known is None:
                    raise
                # Not again for each request: to find out may take seconds.
                found = known.key
            known = self._known[name] = _Known(found, self._clock())
        return known.key


class LinkSigner:
    """Signs paths of pictures, so that a browser may open them for a while without a key."""

    def __init__(
        self, secret: bytes, lifetime_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret
        self._lifetime_s = lifetime_s
        self._clock = clock

    def query(self, path: str) -> str:
        """Return what is to be added to a path's query, good from now on for the lifetime."""
        expires = str(int(self._clock() + self._lifetime_s))
        return f"expires={expires}&signature={self._signature(path, expires)}"

    def holds(self, path: str, expires: str, signature: str) -> bool:
        """Tell whether a query is of this path, and still good."""
        expected = self._signature(path, expires)
        good = hmac.compare_digest(expected.encode(), signature.encode())
        return good and expires.isdecimal() and int(expires) > self._clock()

    def _signature(self, path: str, expires: str) -> str:
        text = f"{path}\n{expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:32]
