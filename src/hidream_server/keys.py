"""What an API key is, and what it allows. Knows nothing of storage or HTTP."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

from hidream_server.task import Priority

_FORM = re.compile(r"hd_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")


class Scope(StrEnum):
    """What a key is good for."""

    #: Its own tasks.
    GENERATE = "generate"
    #: Everything.
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What one key may have; None: what the server's settings say."""

    max_queued: int | None = None
    max_running: int | None = None
    #: Images that it may ask for in a minute.
    max_images_per_minute: int | None = None
    #: Its share of the service, beside keys that have 1.
    weight: float = 1.0
    #: The highest priority that it may ask for.
    priority: Priority = Priority.HIGH


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is known: not its text, which only its bearer has."""

    id: str
    name: str
    scope: Scope
    limits: KeyLimits
    #: Seconds since the epoch.
    created_at: float
    revoked_at: float | None = None


def new_key() -> tuple[str, str]:
    """Return the id and the text of a new key; the text has 256 random bits."""
    key_id = secrets.token_hex(4)
    return key_id, f"hd_{key_id}_{secrets.token_urlsafe(32)}"


def is_key(text: str) -> bool:
    """Tell whether a text has the form of a key."""
    return _FORM.fullmatch(text) is not None


def digest(text: str, pepper: bytes) -> str:
    """Return what a key is stored as.

    A keyed hash that is fast: nobody guesses 256 random bits, however fast it is.
    """
    return hmac.new(pepper, text.encode(), hashlib.sha256).hexdigest()
