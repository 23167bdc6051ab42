"""Opens what tasks leave behind, where the settings say: a folder, or a bucket of an object store.

Several servers may share it if they share the task database: it knows whose it is, because what
the tasks of a database do not own is deleted.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hidream_server.errors import ConfigurationError, ResultsUnavailableError
from hidream_server.store.blobs import Blobs
from hidream_server.store.database import Database
from hidream_server.store.folder import Folder
from hidream_server.store.secrets import secret

_OWNER = "database-id"
_S3 = "s3://"


@dataclass(frozen=True, slots=True)
class Results:
    """The stores of one place: one for each kind of what tasks leave behind."""

    pictures: Blobs
    #: By task: what it may go on from. A file that a power cut spoils is only time lost.
    checkpoints: Blobs
    previews: Blobs


def open_results(where: str | None, data_dir: Path, database: Database) -> Results:
    """Open the place that the settings name, else the data folder.

    Raises ConfigurationError, in one sentence, if it cannot be used.
    """
    if where is None:
        return in_folder(data_dir)
    if is_bucket(where):
        return _in_bucket(where, database)
    try:
        results = in_folder(Path(where))
        _claim(Folder(Path(where), durable=True), where, database)
    except OSError as error:
        said = error.strerror
        raise ConfigurationError(f"--results {where} cannot be written: {said}.") from error
    return results


def require_s3(url: str) -> None:
    """Raise ConfigurationError if the s3 extra, which a bucket needs, is not installed."""
    try:
        import obstore  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"--results {url} needs a client for S3: pip install 'hidream-server[s3]'"
        ) from error


def is_bucket(where: str) -> bool:
    """Tell whether a place is a bucket; any other is a folder."""
    return where.startswith(_S3)


def check_bucket(url: str) -> None:
    """Raise ConfigurationError if a bucket cannot be read; write nothing."""
    require_s3(url)
    from hidream_server.store.bucket import open_bucket, reason

    try:
        open_bucket(url.rstrip("/")).get(_OWNER)
    except ResultsUnavailableError as error:
        said = reason(error.__cause__ or error)
        raise ConfigurationError(f"--results {url} cannot be read: {said}") from error


def in_folder(folder: Path) -> Results:
    """Return what is kept in folders beside each other."""
    return Results(
        Folder(folder / "pictures", durable=True),
        Folder(folder / "checkpoints"),
        Folder(folder / "previews"),
    )


def _in_bucket(url: str, database: Database) -> Results:
    require_s3(url)
    # Only here, so that nobody else waits for the library.
    from hidream_server.store.bucket import open_bucket, reason

    bucket = open_bucket(url.rstrip("/"))
    try:
        _claim(bucket, url, database)
    except ResultsUnavailableError as error:
        said = reason(error.__cause__ or error)
        raise ConfigurationError(f"--results {url} cannot be written: {said}") from error
    return Results(*(bucket.within(name) for name in ("pictures", "checkpoints", "previews")))


def _claim(root: Blobs, where: str, database: Database) -> None:
    """Write down whose it is, unless somebody has; refuse what is another's or cannot be written.

    Of two databases that come at once one is refused.
    """
    mine = sha256(secret(database, "results")).hexdigest().encode()
    if root.get(_OWNER) is None:
        root.put_new(_OWNER, mine)
    if root.get(_OWNER) == mine:
        # Shows that it can be written, too.
        root.put(_OWNER, mine)
    else:
        raise ConfigurationError(
            f"--results {where} belongs to another task database, whose pictures would be deleted:"
            " choose another place, or give that database with --database-url; if it is gone for"
            f" good, delete {_OWNER} there, and the pictures will go too."
        )
