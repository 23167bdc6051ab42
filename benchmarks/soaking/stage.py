"""The service under the soak: a server that is started again when it dies, on things that fail.

A disk of its own that can be full, a database that can be gone; knows nothing of who breaks them.
"""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.e2e.server import Server
from tests.postgresql import Postgresql

FAULTS = Path(__file__).parents[2] / "tests" / "e2e" / "faults"

#: What the server keeps has to fit, checkpoints and previews included.
DISK_MB = 64
OPTIONS = {
    "HIDREAM_MAX_ROWS": "1",
    "HIDREAM_CHECKPOINT_S": "0.5",
    "HIDREAM_STEP_TIMEOUT_S": "10",
    "HIDREAM_LOAD_TIMEOUT_S": "60",
    "HIDREAM_DRAIN_TIMEOUT_S": "10",
    "HIDREAM_KEEP_PICTURES_GB": "0.03",
    "HIDREAM_MAX_QUEUE_LENGTH": "24",
    "PYTHONPATH": os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")]),
    "FAULT": "poison",
}


class SmallDisk:
    """A file system in memory with little room, where one may be mounted; else a plain folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
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


class Stage:
    """A server, its disk and its database."""

    def __init__(self, folder: Path, database: Postgresql | None) -> None:
        self.disk = SmallDisk(folder / "disk")
        self.database = database
        url = {"HIDREAM_DATABASE_URL": database.new_database()} if database else {}
        data = {"HIDREAM_DATA_DIR": str(self.disk.folder / "data")}
        self.server = Server(folder / "server", environment=OPTIONS | data | url)
        #: How servers ended that were not killed: their code, and what they said last.
        self.exits: list[tuple[int, str]] = []
        #: Held by whoever starts or ends the server.
        self.turn = threading.Lock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep)

    @contextmanager
    def on(self) -> Iterator["Stage"]:
        """Let the service live for as long as this lasts."""
        self.server.start()
        self._keeper.start()
        try:
            self.server.wait_for("/readyz")
            yield self
        finally:
            self._over.set()
            self._keeper.join()
            self.server.clean_up()
            self.disk.close()

    def _keep(self) -> None:
        """Start the server again when it has died, as a process manager does."""
        while not self._over.wait(0.2):
            with self.turn:
                code = self.server.process.poll()
                if code is not None and not self._over.is_set():
                    if code >= 0:
                        self.exits.append((code, self.server.console().splitlines()[-1]))
                    self.server.start()

    def retire(self) -> int:
        """Stop the server for good; return its exit code."""
        self._over.set()
        self._keeper.join()
        return self.server.stop()

    def settle(self) -> None:
        """Mend everything, and wait until the service is well."""
        self.disk.free()
        if self.database is not None:
            self.database.start()
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with suppress(httpx2.TransportError):
                if self.server.client.get("/readyz").status_code == 200:
                    return
            time.sleep(0.2)
        raise TimeoutError(self.server.console()[-4000:])


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds, 0 if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
