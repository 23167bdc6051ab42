"""A disk that can be full."""

import subprocess
from contextlib import suppress
from pathlib import Path

#: Enough for what a server keeps while it paints, checkpoints and previews included.
_SIZE_MB = 64


class SmallDisk:
    """A file system in memory with little room, where one may be mounted; else a plain folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "tmpfs", str(folder)]
        self.is_small = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """Leave no room."""
        with (self.folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while self.is_small:
                file.write(b"x" * 2**16)

    def free(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        if self.is_small:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)
