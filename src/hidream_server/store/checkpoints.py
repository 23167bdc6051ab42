"""The latest checkpoint of each unfinished task, as a file in one folder.

Knows bytes and ids; what is in them is the ranks' business.
"""

from pathlib import Path


class CheckpointFolder:
    """One file for each task, written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, task_id: str, data: bytes) -> None:
        """Replace a task's checkpoint; one that a power cut spoils is only time lost."""
        temporary = self._folder / f".{task_id}.part"
        temporary.write_bytes(data)
        temporary.replace(self._folder / task_id)

    def get(self, task_id: str) -> bytes | None:
        try:
            return (self._folder / task_id).read_bytes()
        except FileNotFoundError:
            return None

    def drop(self, task_id: str) -> None:
        (self._folder / task_id).unlink(missing_ok=True)

    def task_ids(self) -> list[str]:
        """Return whose checkpoints there are."""
        return sorted(path.name for path in self._folder.iterdir() if path.suffix != ".part")
