"""A server of one command's own, for as long as that lasts; for who has none running."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hidream_server.client import Client
from hidream_server.errors import ConfigurationError

_POLL_S = 0.2
_LAST_LINES = 5


@contextlib.contextmanager
def own_server(options: Sequence[str]) -> Iterator[Client]:
    """Start a server on loopback, with these options of `serve`, and stop it in the end.

    What it made is gone with it.
    """
    with tempfile.TemporaryDirectory(prefix="hidream-") as folder:
        port = _free_port()
        log = Path(folder) / "console"
        with log.open("wb") as console, _serving(options, folder, port, console) as process:
            _wait_until_up(port, process, log)
            with Client(f"http://127.0.0.1:{port}") as client:
                yield client


@contextlib.contextmanager
def _serving(
    options: Sequence[str], folder: str, port: int, console: object
) -> Iterator["subprocess.Popen[bytes]"]:
    where = ["--host", "127.0.0.1", "--port", str(port)]
    kept = ["--data-dir", f"{folder}/data", "--log-dir", f"{folder}/logs"]
    command = [sys.executable, "-m", "hidream_server", "serve", *options, *where, *kept]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=console,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_until_up(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server can be asked; tasks then wait for the model by themselves."""
    while process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(_POLL_S)
    said = log.read_text(errors="replace").strip().splitlines()
    raise ConfigurationError("\n".join(said[-_LAST_LINES:]).removeprefix("hidream: "))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
