"""The service under the soak: a server that is started again when it dies, as by a process manager.

It has a disk and a database of its own; knows nothing of who breaks them.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.e2e.disk import SmallDisk
from tests.e2e.server import Server
from tests.postgresql import Postgresql

FAULTS = Path(__file__).parents[2] / "tests" / "e2e" / "faults"

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

    def finish(self) -> int:
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
