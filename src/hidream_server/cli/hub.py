"""The published published models on the hub, and what to fetch of them.

The transfers are huggingface_hub's: a connection that breaks is taken up where it broke, a process
that ends goes on next time with the first file that is not whole.
"""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from hidream_server.errors import DownloadError

if TYPE_CHECKING:
    from huggingface_hub.file_download import DryRunFileInfo

HUB = "https://huggingface.co"

#: What the server reads: no weights in other formats, no sample pictures.
_WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "LICENSE*", "README.md")
_UNWANTED = ("original/*", "assets/*")


class Published(StrEnum):
    """What can be fetched, by the names of the command line."""

    FULL = "full"
    DEV = "dev"
    FAST = "fast"
    LLAMA = "llama"

    @property
    def repository(self) -> str:
        return {
            "full": "HiDream-ai/HiDream-I1-Full",
            "dev": "HiDream-ai/HiDream-I1-Dev",
            "fast": "HiDream-ai/HiDream-I1-Fast",
            "llama": "meta-llama/Llama-3.1-8B-Instruct",
        }[self]

    @property
    def folder(self) -> str:
        return self.repository.split("/")[1]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a checkpoint: where it is to be, how large it is, whether it is there."""

    path: Path
    size: int
    is_here: bool


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub or a mirror of one, as somebody who may have a token sees it."""

    address: str = HUB
    token: str | None = None

    def files(self, model: Published, folder: Path) -> list[RemoteFile]:
        """Return what is to be in a folder, sorted; raise DownloadError if the hub does not say."""
        return [
            RemoteFile(folder / file.filename, file.file_size or 0, not file.will_download)
            for file in sorted(
                self._ask(model, folder, dry_run=True), key=lambda file: file.filename
            )
        ]

    def fetch(self, model: Published, folder: Path) -> None:
        """Fetch the files that are not in a folder yet."""
        self._ask(model, folder, dry_run=False)
        # What a process that was killed had begun, and nobody goes on with.
        for rest in (folder / ".cache").rglob("*.incomplete"):
            rest.unlink()

    def _ask(self, model: Published, folder: Path, dry_run: bool) -> "list[DryRunFileInfo]":
        # Slow to import, and needed only here.
        import httpx2
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        # That which cannot even be read as an address has a class of its own.
        ways = (httpx2.HTTPError, httpx2.InvalidURL)
        try:
            found = snapshot_download(
                model.repository,
                local_dir=folder,
                allow_patterns=list(_WANTED),
                ignore_patterns=list(_UNWANTED),
                endpoint=self.address,
                token=self.token,
                dry_run=dry_run,
            )
        except (HfHubHTTPError, *ways, OfflineModeIsEnabled, OSError) as error:
            raise DownloadError(self._sentence(model, error.__cause__ or error)) from error
        return found if isinstance(found, list) else []

    def _sentence(self, model: Published, error: BaseException) -> str:
        """Say what a person can do about it."""
        from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled

        what = f"{model.repository} could not be fetched from {self.address}"
        if isinstance(error, GatedRepoError):
            page = f"{self.address}/{model.repository}"
            return f"{what}: accept its licence at {page}, and give --token."
        if isinstance(error, OfflineModeIsEnabled):
            return f"{what}: HF_HUB_OFFLINE is set."
        if isinstance(error, OSError) and error.errno is not None:
            return f"{what}: {os.strerror(error.errno)}."
        return f"{what}: {str(error).strip().splitlines()[0] if str(error) else error!r}"
