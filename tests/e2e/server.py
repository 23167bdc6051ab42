"""A real server in a process of its own, with a real worker group, and a client for it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

#: A server on a busy machine may take so long for anything at all, in seconds.
PATIENCE_S = 180.0
_POLL_S = 0.05


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def share_profiles(data_dir: Path, profiles: Path) -> None:
    """Let a server that keeps its data there know what others have found out, and add to it."""
    data_dir.mkdir(parents=True)
    (data_dir / "profiles").symlink_to(profiles)


class Server:
    """`hidream serve` on a folder of its own; may be started again after it has ended.

    Or a worker, which has no address.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        environment: Mapping[str, str] = {},
        verb: str = "serve",
    ) -> None:
        self.folder = folder
        self._verb = verb
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx2.Client(base_url=self.url, timeout=30)
        self._options = options
        self._environment = os.environ | environment
        self.process: subprocess.Popen[bytes] | None = None
        #: How much of what was printed is no matter of the current test.
        self._read = 0

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "hidream_server", self._verb]
        where = ["--host", "127.0.0.1", "--port", str(self.port)] * (self._verb == "serve")
        with (self.folder / "console").open("ab") as console:
            self.process = subprocess.Popen(
                [*command, *where, *self._options],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # A group of its own, as a terminal gives it, so that a test can press Ctrl-C.
                start_new_session=True,
            )

    def wait_for(self, route: str) -> None:
        """Wait until a route answers 200."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.console()
            try:
                if self.client.get(route).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(_POLL_S)
        raise TimeoutError(f"{route} did not answer 200:\n{self.console()}")

    def wait_said(self, words: str) -> None:
        """Wait until these words stand on the console."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.console():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{words!r} was not said:\n{self.console()}")
            time.sleep(_POLL_S)

    def submit(self, **body: Any) -> str:
        answer = self.client.post("/submit", json={"prompt": "a red circle", **body})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    def status(self, task_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/status/{task_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_status(self, task_id: str, *states: str, progress: int = 0) -> dict[str, Any]:
        """Wait until a task is in one of these states and has come so far."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            status = self.status(task_id)
            if status["status"] in states and status["progress"] >= progress:
                return status
            time.sleep(_POLL_S)
        raise TimeoutError(f"task {task_id} is {status}:\n{self.console()}")

    def wait_health(self, **fields: Any) -> None:
        """Wait until /health says all of this."""
        deadline = time.monotonic() + PATIENCE_S
        while not fields.items() <= (health := self.client.get("/health").json()).items():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{fields} is not in {health}:\n{self.console()}")
            time.sleep(_POLL_S)

    def pictures(self, task_id: str) -> list[bytes]:
        """Wait for a task's pictures and fetch them by their own links."""
        status = self.wait_status(task_id, "completed", "failed")
        assert status["status"] == "completed", status["error"]
        return [self.client.get(url).raise_for_status().content for url in status["result_urls"]]

    def ranks(self) -> list[int]:
        """Return the process ids of this server's ranks."""
        return [pid for pid in self._workers() if not _is_launcher(pid)]

    def launchers(self) -> list[int]:
        """Return the process ids of this server's torchrun agents."""
        return [pid for pid in self._workers() if _is_launcher(pid)]

    def _workers(self) -> list[int]:
        family = descendants(self.process.pid)
        return [pid for pid in family if b"hidream_server.worker" in command_line(pid)]

    def stop(self) -> int:
        """Ask the server to drain; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def clean_up(self) -> None:
        """Leave nothing behind, whatever state the server is in."""
        self.client.close()
        if self.runs:
            self.kill()

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def turn_page(self) -> None:
        """From now on the console shows only what is new."""
        self._read = (self.folder / "console").stat().st_size

    def console(self) -> str:
        return (self.folder / "console").read_bytes()[self._read :].decode(errors="replace")


def _is_launcher(pid: int) -> bool:
    return b"torch.distributed.run" in command_line(pid)


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one, itself included while it lives."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [pid] if pid in parents else []
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def gone(pids: Sequence[int]) -> bool:
    """Wait until none of these processes runs; False if one stays."""
    deadline = time.monotonic() + 30
    while any(command_line(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
