"""The example client, against a real server and against none."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.server import Server, free_port

ROOT = Path(__file__).parent.parent.parent


def run_example(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "test_api.py", "--url", f"http://127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_example_passes_against_a_server(server: Server) -> None:
    done = run_example(server.port)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything works." in done.stdout


def test_the_example_fails_against_a_dead_server() -> None:
    done = run_example(free_port())
    assert done.returncode != 0
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
