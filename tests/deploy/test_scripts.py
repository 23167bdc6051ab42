"""The scripts of the images and of this project: linted, and run with a stand-in of Python."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.deploy.files import DEPLOY, ROOT, program_or_skip, run

SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), *sorted(DEPLOY.glob("*.sh"))]

#: Says what is installed, and writes down what it is asked to install, and under what constraints.
STAND_IN = """#!/bin/bash
if [ "$1 $2" = "-m pip" ]; then
    echo "${*:3}" >>"$LOG"; cp "$PIP_CONSTRAINT" "$LOG.constraints"; exit 0
fi
case "$*" in
    *"m.version('torch')"*) echo "$TORCH"; exit 0 ;;
    *"m.version('torch_npu')"*) echo "$TORCH_NPU"; exit 0 ;;
esac
exec "$REAL_PYTHON" "$@"
"""

Install = Callable[..., subprocess.CompletedProcess[str]]


def test_shellcheck_has_nothing_to_say() -> None:
    assert len(SCRIPTS) >= 6
    run(
        program_or_skip("shellcheck"),
        "--external-sources",
        "--source-path=SCRIPTDIR",
        "--shell=bash",
        *SCRIPTS,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def install(tmp_path: Path, log: Path) -> Install:
    """Run npu-install.sh in a copy of what the image has of this project."""
    for name in ("deploy/npu-install.sh", "scripts/environment.sh", "constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python3"
    python.write_text(STAND_IN)
    python.chmod(0o755)

    def install(**installed: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "LOG": str(log),
            "REAL_PYTHON": sys.executable,
            "TORCH_INDEX_URL": "https://index.example/cpu",
        }
        command = ["bash", str(tmp_path / "deploy" / "npu-install.sh"), "/wheels/hidream.whl"]
        return subprocess.run(
            command, env=environment | installed, capture_output=True, text=True, check=False
        )

    return install


def test_an_image_without_torch_gets_the_pinned_one_first(install: Install, log: Path) -> None:
    done = install()
    assert done.returncode == 0, done.stderr
    torch, project = log.read_text().splitlines()
    assert torch.endswith("--no-deps --index-url https://index.example/cpu torch")
    assert project.endswith("/wheels/hidream.whl[npu,otel,postgresql,s3]")
    assert Path(f"{log}.constraints").read_text() == (ROOT / "constraints.txt").read_text()


def test_an_image_keeps_its_own_torch_npu(install: Install, log: Path) -> None:
    done = install(TORCH="2.12.0+cpu", TORCH_NPU="2.12.0.post2")
    assert done.returncode == 0, done.stderr
    [project] = log.read_text().splitlines()
    assert project.endswith("/wheels/hidream.whl[otel,postgresql,s3]")
    constraints = Path(f"{log}.constraints").read_text().splitlines()
    assert [line for line in constraints if line.startswith("torch")] == ["torch==2.12.0+cpu"]


def test_an_image_whose_torch_is_too_old_is_refused(install: Install, log: Path) -> None:
    done = install(TORCH="2.9.0", TORCH_NPU="2.9.0.post2")
    assert done.returncode == 1
    assert "has torch 2.9.0" in done.stderr
    assert not log.exists()


@contextmanager
def answering(status: int) -> Iterator[int]:
    """Answer every request with a status while inside; the value is the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def health(port: int) -> int:
    # A proxy that is not there: whoever asks it finds nobody healthy.
    environment = {"HIDREAM_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, str(DEPLOY / "healthcheck.py")]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_container_is_as_healthy_as_its_server_says(status: int, code: int) -> None:
    with answering(status) as port:
        assert health(port) == code


def test_a_container_without_a_server_is_not_healthy() -> None:
    with answering(200) as port:
        pass
    assert health(port) == 1
