"""A Ray cluster of several nodes on this machine, deployments on it, and a server beside it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ray.cluster_utils import Cluster

from hidream_server.store.database import Database, open_postgresql
from hidream_server.store.history import Happened, History
from tests.e2e.server import PATIENCE_S, Server, command_line, descendants
from tests.postgresql import Postgresql

_POLL_S = 0.1
_NODE = {"object_store_memory": 100_000_000, "include_dashboard": False}
#: Room on a node for one worker group of two ranks with its supervisor.
CPUS = 3


class RayCluster:
    """A head that has no room for replicas, and nodes that have room for one each."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._results = str(folder / "results")
        self._url = url
        self._cluster: Cluster | None = None
        self.nodes: list[Any] = []
        self.database: Database = open_postgresql(url)
        self.server = Server(
            folder / "server",
            ["--replicas", "0", "--database-url", url, "--results", self._results],
        )

    def start(self) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **_NODE})
        self.nodes = []

    def add_node(self) -> None:
        self.nodes.append(self._cluster.add_node(num_cpus=CPUS, **_NODE))

    def remove_node(self) -> None:
        """Kill the node that the replica is on, with all that is on it."""
        [node] = [node for node in self.nodes if any(self._find(b"ServeReplica", node))]
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def kill_head(self) -> None:
        self._cluster.head_node.kill_gcs_server()

    def stop(self) -> None:
        if self._cluster is not None:
            self._cluster.shutdown()

    def deploy(self, **fields: Any) -> subprocess.CompletedProcess[str]:
        """Deploy one deployment, of two ranks each, with these fields."""
        target = {"name": "demo", "device_type": "cpu", "devices": 2, "layout": "tp2"}
        options = {"max_rows": 1, "checkpoint_s": 1} | fields.pop("options", {})
        file = self._folder / "hidream.yaml"
        wanted = {
            "database": self._url,
            "results": self._results,
            "data_dir": str(self._folder / "data"),
            "deployments": [{**target, **fields, "options": options}],
        }
        file.write_text(yaml.safe_dump(wanted))
        return self.command("deploy", "-f", str(file))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hidream_server", "cluster", *words]
        return subprocess.run(
            [*command, "--address", self._cluster.address],
            capture_output=True,
            text=True,
            check=False,
        )

    def replicas(self) -> list[int]:
        """Return the process ids of the supervisors."""
        return [pid for node in self.nodes for pid in self._find(b"ServeReplica", node)]

    def ranks(self) -> list[int]:
        return [pid for node in self.nodes for pid in self._find(b"hidream_server.worker", node)]

    def _find(self, words: bytes, node: Any) -> Iterator[int]:
        for process in node.all_processes["raylet"]:
            for pid in descendants(process.process.pid):
                if words in command_line(pid):
                    yield pid

    def wait_replicas(self, count: int) -> float:
        """Wait until there are so many; return how long that took."""
        start = time.monotonic()
        while len(self.replicas()) != count:
            if time.monotonic() > start + PATIENCE_S:
                raise TimeoutError(f"{count} replicas, not {self.replicas()}")
            time.sleep(_POLL_S)
        return time.monotonic() - start

    def wait_stepping(self, task_id: str, attempt: int) -> float:
        """Wait until a later attempt has made a step; return how long that took."""
        start = time.monotonic()
        while (status := self.server.status(task_id))["attempt"] < attempt or not status[
            "progress"
        ]:
            if time.monotonic() > start + PATIENCE_S:
                raise TimeoutError(f"{status}")
            time.sleep(_POLL_S)
        return time.monotonic() - start

    def times_completed(self, task_id: str) -> int:
        """Return how often a task was published."""
        entries = History(self.database).after(0, 10_000, task_id)
        return sum(entry.what is Happened.COMPLETED for entry in entries)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Let these variables have these values for so long."""
    before: Mapping[str, str | None] = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def running_ray(folder: Path, postgresql: Postgresql) -> Iterator[RayCluster]:
    """Start a head and two nodes, and leave nothing of them behind."""
    # Who may speak to it is no matter where nobody else can.
    with environment(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled"):
        cluster = RayCluster(folder, postgresql.new_database())
        try:
            cluster.start()
            cluster.add_node()
            yield cluster
        finally:
            cluster.server.clean_up()
            cluster.stop()
            cluster.database.dispose()
