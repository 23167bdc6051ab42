"""Servers and workers in processes of their own, on one PostgreSQL and one folder of pictures."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from hidream_server.store.database import Database, open_postgresql
from hidream_server.store.groups import GroupStore
from hidream_server.store.history import Happened, History
from hidream_server.store.tables import tasks
from tests.e2e.server import PATIENCE_S, Server, share_profiles
from tests.postgresql import Postgresql

#: One image a step: then a picture's bytes depend on no company.
BY_ITSELF = {"HIDREAM_MAX_ROWS": "1"}
_POLL_S = 0.1


class Cluster:
    """Two of each, all at work."""

    def __init__(self, folder: Path, profiles: Path, url: str) -> None:
        shared = ["--database-url", url, "--results", str(folder / "results")]
        self.database: Database = open_postgresql(url)
        self.workers = [
            Server(folder / f"worker{n}", shared, BY_ITSELF, verb="worker") for n in range(2)
        ]
        self.servers = [
            Server(folder / f"server{n}", [*shared, "--replicas", "0"], BY_ITSELF) for n in range(2)
        ]
        for each in self.all:
            share_profiles(each.folder / "var", profiles)

    @property
    def all(self) -> list[Server]:
        return [*self.workers, *self.servers]

    def start(self) -> None:
        """Start the workers, for the servers learn from them what is served."""
        for worker in self.workers:
            worker.start()
        self._wait_until_known(2)
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait_for("/livez")
            server.wait_health(replicas_ready=2)

    def worker_of(self, task_id: str) -> Server:
        """Wait until a task is on hand somewhere; return the worker that has it."""
        deadline = time.monotonic() + PATIENCE_S
        query = select(tasks.c.owner).where(tasks.c.id == task_id)
        while time.monotonic() < deadline:
            # What groups say of themselves comes later.
            with self.database.read() as connection:
                owner = connection.scalar(query)
            if owner is not None:
                return next(worker for worker in self.workers if _name(worker) == owner)
            time.sleep(_POLL_S)
        raise TimeoutError(f"Nobody has {task_id} on hand.")

    def times_completed(self, task_id: str) -> int:
        """Return how often a task was published."""
        entries = History(self.database).after(0, 10_000, task_id)
        return sum(entry.what is Happened.COMPLETED for entry in entries)

    def _wait_until_known(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(GroupStore(self.database).seen(0)) < count:
            assert all(worker.runs for worker in self.workers), self.consoles()
            if time.monotonic() > deadline:
                raise TimeoutError(self.consoles())
            time.sleep(_POLL_S)

    def consoles(self) -> str:
        return "\n\n".join(each.console() for each in self.all)


def _name(worker: Server) -> str:
    return (worker.folder / "var" / "server.name").read_text()


@contextmanager
def running_cluster(folder: Path, profiles: Path, postgresql: Postgresql) -> Iterator[Cluster]:
    """Start a cluster, and leave nothing of it behind."""
    cluster = Cluster(folder, profiles, postgresql.new_database())
    try:
        cluster.start()
        yield cluster
    finally:
        for each in cluster.all:
            each.clean_up()
        cluster.database.dispose()
