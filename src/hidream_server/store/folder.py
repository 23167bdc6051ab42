"""Bytes under names as files in one folder, on a disk of this machine or one that many share."""

import os
from contextlib import suppress
from pathlib import Path

from hidream_server.store.blobs import Blob, is_plain, plain
from hidream_server.store.whole_files import drop_unfinished, write_whole


class Folder:
    """One file for each name; see `Blobs`."""

    def __init__(self, folder: Path, durable: bool = False) -> None:
        """`durable`: a power cut after a put costs nothing; else it may cost what was put."""
        self._folder = folder
        self._durable = durable
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        write_whole(self._path(name), data, self._durable)

    def put_new(self, name: str, data: bytes) -> None:
        with suppress(FileExistsError):
            write_whole(self._path(name), data, self._durable, new=True)

    def open(self, name: str) -> Blob | None:
        path = self._path(name)
        # A link may have been planted: wherever it leads, it is not followed.
        return Blob(path=path) if path.is_file() and not path.is_symlink() else None

    def get(self, name: str) -> bytes | None:
        blob = self.open(name)
        try:
            return None if blob is None else blob.read()
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        return self.open(name) is not None

    def names(self) -> list[str]:
        with os.scandir(self._folder) as found:
            return sorted(
                entry.name
                for entry in found
                if is_plain(entry.name) and entry.is_file(follow_symlinks=False)
            )

    def drop(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def drop_unfinished(self) -> None:
        drop_unfinished(self._folder)

    def _path(self, name: str) -> Path:
        return self._folder / plain(name)
