"""Bytes under names, and nothing of what they are: pictures, checkpoints, previews, profiles.

The one interface to wherever they are kept, which several servers may share.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """What is kept under a name: a file on this machine, or bytes that were fetched whole."""

    path: Path | None = None
    data: bytes = b""
    #: Of fetched bytes: which they are, and when they were put, in seconds.
    etag: str = ""
    put_at: float = 0.0

    def read(self) -> bytes:
        """Return the bytes; raise FileNotFoundError if the file was dropped meanwhile."""
        return self.data if self.path is None else self.path.read_bytes()


class Blobs(Protocol):
    """Bytes under plain names; any thread of any server may put, get and drop at any time.

    All but `names` raise ValueError for a name that might lead elsewhere. All raise
    ResultsUnavailableError, or OSError where they are files, for what cannot be done now.
    """

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes in place of what is there: whole or not at all, for good on return."""

    def put_new(self, name: str, data: bytes) -> None:
        """Keep bytes where there is nothing yet; of several who do so at once one succeeds.

        Nobody is told which: whoever reads afterwards knows.
        """

    def open(self, name: str) -> Blob | None:
        """Return what is kept under a name, to be sent; None if there is nothing."""

    def get(self, name: str) -> bytes | None:
        """Return the bytes under a name, None if there are none."""

    def exists(self, name: str) -> bool:
        """Tell whether there is something under a name."""

    def names(self) -> Iterable[str]:
        """Return all names; slow where there are many, so not for what somebody waits for.

        What others have left there under no plain name, or as no file, is passed over.
        """

    def drop(self, name: str) -> None:
        """Keep no longer what is there, if anything is."""

    def drop_unfinished(self) -> None:
        """Delete what processes that were killed had begun to put."""


def is_plain(name: str) -> bool:
    """Tell whether a name can lead nowhere else."""
    return bool(name) and not name.startswith(".") and not any(char in name for char in "/\\\0")


def plain(name: str) -> str:
    """Return a name that can lead nowhere else; raise ValueError for any other."""
    if not is_plain(name):
        raise ValueError(f"{name!r} is no name for what is kept")
    return name
