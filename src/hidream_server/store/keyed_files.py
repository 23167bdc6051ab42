"""Small files by name, of which the latest counts: checkpoints, previews, profiles.

Knows bytes and names; what is in them is the ranks' business.
"""

from pathlib import Path

from hidream_server.store.whole_files import drop_unfinished, write_whole


def preview_key(task_id: str, image_index: int) -> str:
    return f"{task_id}_{image_index}"


class KeyedFiles:
    """One file for each key, in one folder, written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        drop_unfinished(folder)

    def put(self, key: str, data: bytes) -> None:
        """Replace what is there; a file that a power cut spoils is only time lost."""
        write_whole(self._folder / key, data)

    def get(self, key: str) -> bytes | None:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def drop(self, key: str) -> None:
        (self._folder / key).unlink(missing_ok=True)

    def names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if path.suffix != ".part")
