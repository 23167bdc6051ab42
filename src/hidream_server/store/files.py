"""Files that clients upload, in the database, so that all servers on it have them."""

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, func, insert, select

from hidream_server.errors import FilesFullError
from hidream_server.store.database import Database
from hidream_server.store.paging import Page, rows_of
from hidream_server.store.tables import files

#: All but the content, which may be large.
_ABOUT = select(*(column for column in files.c if column is not files.c.content))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """What is known of a file beside its content."""

    id: str
    client: str
    filename: str
    purpose: str
    bytes: int
    #: Seconds since the epoch, UTC.
    created_at: float


class FileStore:
    """Uploaded files by their ids."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, file: StoredFile, content: bytes, most_bytes: float = math.inf) -> None:
        """Keep a file; it is on the disk when this returns.

        Raises FilesFullError if its client would have more than `most_bytes` in all.
        """
        row = {name: getattr(file, name) for name in file.__slots__}
        kept = select(func.sum(files.c.bytes)).where(files.c.client == file.client)
        with self._database.write(exclusive=True) as connection:
            if (connection.scalar(kept) or 0) + file.bytes > most_bytes:
                raise FilesFullError
            connection.execute(insert(files), row | {"content": content})

    def find(self, file_id: str) -> StoredFile | None:
        # What is no name of ours some databases cannot even be asked for.
        if not file_id.isascii() or not file_id.isprintable():
            return None
        with self._database.read() as connection:
            row = connection.execute(_ABOUT.where(files.c.id == file_id)).first()
        return None if row is None else _to_file(row)

    def content(self, file_id: str) -> bytes | None:
        with self._database.read() as connection:
            return connection.scalar(select(files.c.content).where(files.c.id == file_id))

    def page(self, page: Page) -> tuple[list[StoredFile], bool]:
        """Return a page of the files, and whether more follow."""
        with self._database.read() as connection:
            rows, more = rows_of(connection, _ABOUT, files, page)
        return [_to_file(row) for row in rows], more

    def delete(self, file_id: str) -> bool:
        """Delete a file; False if there is none."""
        with self._database.write() as connection:
            return connection.execute(delete(files).where(files.c.id == file_id)).rowcount == 1

    def forget(self, before: float) -> int:
        """Delete the files that were uploaded before a time; say how many."""
        with self._database.write() as connection:
            return connection.execute(delete(files).where(files.c.created_at < before)).rowcount


def _to_file(row: Row[Any]) -> StoredFile:
    return StoredFile(**row._mapping)
