"""How a server starts, what it refuses, and what it leaves alone."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.server import Server, free_port


def test_the_server_process_never_loads_torch(server: Server) -> None:
    """Neither by import nor in any other way: its address space holds no such file."""
    server.pictures(server.submit(resolution="256x256", num_inference_steps=1))
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "sqlalchemy" in loaded.lower() or "pydantic" in loaded.lower()
    for name in ("torch", "diffusers", "transformers"):
        assert f"site-packages/{name}/" not in loaded


def test_importing_the_server_imports_no_torch() -> None:
    check = (
        "import sys, hidream_server.cli.main, hidream_server.cli.server, hidream_server.cli.doctor;"
        "print(sorted({'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_answers_and_takes_tasks_while_the_model_loads(
    new_server: Callable[..., Server],
) -> None:
    early = new_server()
    early.start()
    early.wait_for("/livez")
    assert early.client.get("/readyz").status_code == 503
    health = early.client.get("/health").json()
    assert (health["status"], health["pipeline_ready"]) == ("starting", False)
    task_id = early.submit(resolution="256x256", num_inference_steps=1)
    assert early.status(task_id)["status"] == "queued"
    assert len(early.pictures(task_id)) == 1
    assert early.client.get("/readyz").status_code == 200


def test_the_demo_model_is_announced(server: Server) -> None:
    model = server.client.get("/health").json()["model"]
    assert model["demo"] is True
    assert "demo" in model["notice"]
    assert "embedded demo model" in server.console()


def test_the_logs_name_task_and_rank(server: Server) -> None:
    task_id = server.submit(resolution="256x256", num_inference_steps=1)
    server.pictures(task_id)
    [run_log] = (server.folder / "logs").glob("hidream_api_*.log")
    log = run_log.read_text()
    assert f"[task={task_id} rank=-]" in log
    assert "rank=0]" in log
    startup = (server.folder / "logs" / "startup.log").read_text()
    assert "Listening on" in startup
    assert task_id not in startup


def refused(folder: Path, *options: str) -> str:
    """Start a server that must refuse; return its one sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "hidream_server", "serve", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-m", "/no/such/model"), "/no/such/model does not exist"),
        (("-e", "/no/such/llama"), "/no/such/llama does not exist"),
        (("-p", "/no/such/project"), "inference.py"),
        (("-d", "0,x"), "0,1,2,3"),
        (("-d", "1,1"), "twice"),
        (("-d", "0,1", "-c", "3"), "--device-count is 3"),
        (("-t", "npu"), "torch_npu"),
        (("-t", "tpu"), "npu, cuda or cpu"),
        (("-t", "cpu", "-d", "4095"), "Device 4095"),
        (("--port", "99999"), "--port cannot be"),
        (("--config", "/no/such/file"), "/no/such/file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in refused(tmp_path, *options)
    assert not list(tmp_path.iterdir())


def test_a_taken_port_is_named_and_its_owner_left_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused(tmp_path, "--host", "127.0.0.1", "--port", str(port))
        assert f"Port {port}" in said
        assert f"--port {port + 1}" in said
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_second_server_on_the_same_folder_is_refused(server: Server) -> None:
    said = refused(server.folder, "--port", str(free_port()))
    assert str(server.process.pid) in said
    assert "--stop" in said


def test_stop_ends_the_server_of_this_folder_only(
    server: Server, new_server: Callable[..., Server]
) -> None:
    other = new_server()
    other.start()
    other.wait_for("/livez")
    command = [sys.executable, "-m", "hidream_server", "serve", "--stop"]
    done = subprocess.run(command, cwd=other.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert other.process.wait(10) == 0
    assert server.client.get("/livez").status_code == 200
    again = subprocess.run(command, cwd=other.folder, capture_output=True, text=True, timeout=60)
    assert again.returncode == 1
    assert "No server runs" in again.stderr
