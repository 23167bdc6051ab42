"""Bytes under names in an S3-compatible object store; the only module that needs the s3 extra.

Credentials, endpoint and region come from the environment, by the names that AWS's tools use.
"""

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from hidream_server.errors import ConfigurationError, ResultsUnavailableError
from hidream_server.store.blobs import Blob, is_plain, plain

logger = logging.getLogger(__name__)

#: A store that is away is noticed after about so many seconds, one that is slow after so many.
_CONNECT_S, _REQUEST_S = 3, 20
#: Where the library finds the address of a store that is not Amazon's.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
#: What a store says of a bucket that is missing; the library takes it for a missing object.
_NO_BUCKET = "<Code>NoSuchBucket</Code>"
#: So much of what the library says is said on.
_SHOWN_CHARS = 300


@dataclass(slots=True)
class _Contact:
    """The way to a store: whether it answers, which is said once, and who may try it."""

    where: str
    #: Ways in which it does not answer: a full one can be read.
    _failing: set[str] = field(default_factory=set)
    #: Held by the one who tries a store that is away; nobody waits for it in vain beside them.
    _trying: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def asking(self, way: str = "read") -> Iterator[None]:
        """Let those above know trouble with the store without knowing the library."""
        tries = way in self._failing
        if tries and not self._trying.acquire(blocking=False):
            raise ResultsUnavailableError
        try:
            yield
            self._answers(way)
        except (BaseError, OSError) as error:
            self._fails(way, error)
            raise ResultsUnavailableError from error
        finally:
            if tries:
                self._trying.release()

    def _fails(self, way: str, error: Exception) -> None:
        if not self._failing:
            logger.error("%s does not answer as it should: %s", self.where, reason(error))
        self._failing.add(way)

    def _answers(self, way: str) -> None:
        """Say once that it is back; what can be written can be read."""
        if not self._failing:
            return
        self._failing -= {way} if way == "read" else {"read", "write"}
        if not self._failing:
            logger.warning("%s answers again", self.where)


class Bucket:
    """One object for each name, under one prefix; see `Blobs`."""

    def __init__(self, store: S3Store, contact: _Contact, folder: str = "") -> None:
        self._store = store
        self._contact = contact
        self._folder = folder

    def within(self, folder: str) -> "Bucket":
        """Return what is kept further down in the same bucket."""
        return Bucket(self._store, self._contact, f"{self._folder}{folder}/")

    def put(self, name: str, data: bytes) -> None:
        key = self._key(name)
        with self._contact.asking("write"):
            # In one request: of an upload in parts something would stay if it were cut off.
            self._store.put(key, data, use_multipart=False)

    def put_new(self, name: str, data: bytes) -> None:
        key = self._key(name)
        with self._contact.asking("write"), suppress(AlreadyExistsError):
            self._store.put(key, data, use_multipart=False, mode="create")

    def open(self, name: str) -> Blob | None:
        key = self._key(name)
        with self._contact.asking(), _if_there():
            found = self._store.get(key)
            data, meta = bytes(found.bytes()), found.meta
            at = meta["last_modified"].timestamp()
            return Blob(data=data, etag=meta["e_tag"] or "", put_at=at)
        return None

    def get(self, name: str) -> bytes | None:
        blob = self.open(name)
        return None if blob is None else blob.data

    def exists(self, name: str) -> bool:
        key = self._key(name)
        with self._contact.asking(), _if_there():
            with suppress(FileNotFoundError):
                self._store.head(key)
                return True
            # Of what is missing, object or bucket, only the body of an answer tells.
            self._store.get(key)
            return True
        return False

    def names(self) -> list[str]:
        with self._contact.asking():
            pages = list(self._store.list(self._folder or None))
        start = len(self._folder)
        names = (found["path"][start:] for page in pages for found in page)
        return sorted(name for name in names if is_plain(name))

    def drop(self, name: str) -> None:
        key = self._key(name)
        # Some stores say so when there is nothing, most do not.
        with self._contact.asking("write"), _if_there():
            self._store.delete(key)

    def drop_unfinished(self) -> None:
        """Do nothing: of an upload that was cut off there is nothing."""

    def _key(self, name: str) -> str:
        return self._folder + plain(name)


@contextmanager
def _if_there() -> Iterator[None]:
    """Pass over that there is no such object; that there is no such bucket is trouble."""
    try:
        yield
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise


def open_bucket(url: str) -> Bucket:
    """Return the bucket of an s3:// address, which is not asked anything yet."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    _check_endpoints()
    try:
        store = S3Store(
            bucket,
            prefix=prefix or None,
            # Not all stores can delete many at once, and none needs to.
            config={"disable_bulk_delete": True},
            client_options={
                # It is https, unless the address of an endpoint says otherwise.
                "allow_http": True,
                "connect_timeout": timedelta(seconds=_CONNECT_S),
                "timeout": timedelta(seconds=_REQUEST_S),
            },
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=_CONNECT_S)},
        )
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"{url} cannot be used: {reason(error)}") from error
    return Bucket(store, _Contact(url))


def _check_endpoints() -> None:
    """Refuse an address with which the library would end the process, or that has a secret in it.

    What it is is not said: it would be in the log.
    """
    for name in _ENDPOINTS:
        value = os.environ.get(name)
        if value and not re.fullmatch(r"https?://[^/\s@]+(/[^\s@]*)?", value):
            raise ConfigurationError(
                f"{name} is no http or https address, or there is an @ in it: who asks is said by"
                " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )


def reason(error: BaseException) -> str:
    """Return what the library says, in one line that is not too long."""
    said = str(error).partition("\n\nDebug source")[0]
    return " ".join(said.split())[:_SHOWN_CHARS]
