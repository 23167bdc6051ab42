"""Exit codes, and one sentence on the error stream."""

import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from hidream_server import __version__
from hidream_server.cli import instance, main, server
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import NotRunningError, PortTakenError
from hidream_server.settings import Settings, options
from tests.support import linked_demo

DEMO = ["-m", str(DEMO_MODEL_PATH), "-e", str(DEMO_EXTRA_MODEL_PATH)]


@pytest.fixture(autouse=True)
def no_exported_options(monkeypatch):
    """Take away what whoever runs the tests has exported."""
    for option in options():
        for name in option.env:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Let through what a start holds back: processes that other tests start would inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def hidream(monkeypatch, capsys):
    """Return a function that runs the command line: exit code, output, error stream."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hidream", *arguments])
        try:
            main.run()
        except SystemExit as end:
            code, message = end.code, ""
            if isinstance(code, str):
                # What the interpreter does with a text: print it and exit with 1.
                code, message = 1, code + "\n"
        else:
            code, message = 0, ""
        captured = capsys.readouterr()
        return code or 0, captured.out, captured.err + message

    return run


@pytest.fixture
def served(monkeypatch) -> list[Settings]:
    """Return a list of the settings that would have been served."""
    found: list[Settings] = []
    monkeypatch.setattr(server, "run_server", found.append)
    return found


@pytest.fixture
def stopped(monkeypatch) -> list[tuple[Path, float]]:
    """Return a list of the data directories that would have been stopped."""
    found: list[Path] = []

    def stop(data_dir: Path, announce: Callable[[int], None]) -> int:
        found.append(data_dir)
        announce(4321)
        return 4321

    monkeypatch.setattr(instance, "stop_instance", stop)
    return found


def test_without_arguments_the_help_is_shown(hidream):
    code, out, err = hidream()
    assert code == 2
    assert "serve" in out + err
    assert "doctor" in out + err


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_no_error(hidream, flag):
    for arguments in ([flag], ["serve", flag], ["doctor", flag]):
        code, out, _ = hidream(*arguments)
        assert code == 0
        assert "Usage" in out


@pytest.mark.parametrize(
    "arguments", [["paint"], ["serve", "--no-such-option"], ["serve", "extra"]]
)
def test_wrong_usage_is_exit_code_2(hidream, served, arguments):
    code, _, err = hidream(*arguments)
    assert code == 2
    assert err
    assert served == []


def test_serve_serves_with_its_options(hidream, served, stopped):
    assert hidream("serve", *DEMO, "-d", "0", "--port", "9000")[0] == 0
    [settings] = served
    assert settings == Settings(
        model_path=DEMO_MODEL_PATH, extra_model_path=DEMO_EXTRA_MODEL_PATH, devices=(0,), port=9000
    )
    assert stopped == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "0"], ["--port", "'0'"]),
        (["--devices", "0;1"], ["'0;1'", "0,1,2,3"]),
        (["--config", "/nowhere/hidream.toml"], ["/nowhere/hidream.toml"]),
    ],
)
def test_an_option_that_cannot_be_is_one_sentence_and_exit_code_1(
    hidream, served, arguments, words
):
    for command in ("serve", "doctor"):
        code, out, err = hidream(command, *arguments)
        assert (code, out) == (1, "")
        assert err.startswith("hidream: ")
        assert err.count("\n") == 1
        assert all(word in err for word in words)
    assert served == []


def test_an_error_while_serving_is_one_sentence_and_exit_code_1(hidream, monkeypatch):
    def taken(_settings: Settings) -> None:
        raise PortTakenError("Port 8088 is taken.")

    monkeypatch.setattr(server, "run_server", taken)
    assert hidream("serve") == (1, "", "hidream: Port 8088 is taken.\n")


def test_a_mistake_of_the_program_is_one_sentence_and_exit_code_1(hidream, monkeypatch):
    def wrong(_settings: Settings) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(server, "run_server", wrong)
    code, out, err = hidream("serve")
    assert (code, out) == (1, "")
    assert err == (
        "hidream: a mistake of the program, ZeroDivisionError: by zero (hidream -v … shows where)\n"
    )


@pytest.mark.parametrize("error", [ZeroDivisionError, PortTakenError])
def test_a_trace_is_shown_to_those_who_ask(hidream, monkeypatch, error):
    def wrong_in_here(_settings: Settings) -> None:
        raise error

    monkeypatch.setattr(server, "run_server", wrong_in_here)
    code, _, err = hidream("-v", "serve")
    assert code == 1
    assert err.startswith("Traceback (most recent call last):")
    assert "in wrong_in_here" in err
    assert err.splitlines()[-1].startswith("hidream: ")


def test_no_trace_is_shown_of_what_ends_without_an_error(hidream, served):
    assert "Traceback" not in hidream("-v", "serve")[2]
    assert "Traceback" not in hidream("-v", "serve", "--port")[2]
    assert "Traceback" not in hidream("-v", "doctor", "-m", "/nowhere")[2]


def test_the_version_is_said(hidream):
    assert hidream("--version") == (0, f"hidream {__version__}\n", "")


def test_every_finding_of_a_model_has_a_line_of_its_own(hidream, tmp_path):
    model = linked_demo(tmp_path)
    (model / "model_index.json").unlink()
    (model / "vae" / "config.json").unlink()
    arguments = ["-m", str(model), "-e", str(DEMO_EXTRA_MODEL_PATH), "-t", "cpu"]
    code, _, err = hidream("serve", *arguments, "--data-dir", str(tmp_path / "var"))
    assert code == 1
    assert err.splitlines() == [
        "hidream: the model cannot be served:",
        f"  {model / 'model_index.json'}: is missing",
        f"  {model / 'vae' / 'config.json'}: is missing",
    ]


# Stop and restart


def test_stop_stops_and_does_not_serve(hidream, served, stopped):
    code, out, _ = hidream("serve", "--stop", "--data-dir", "/d")
    assert code == 0
    assert "may finish" in out
    assert "Stopped the server (process 4321)" in out
    assert stopped == [Path("/d")]
    assert served == []


def test_restart_with_options_that_cannot_be_served_stops_nothing(hidream, served, stopped):
    code, _, err = hidream("serve", "--restart", "-m", "/no/such/model")
    assert code == 1
    assert "/no/such/model" in err
    assert stopped == served == []


def test_restart_stops_and_serves(hidream, served, stopped):
    assert hidream("serve", "--restart")[0] == 0
    assert len(stopped) == len(served) == 1


def test_stopping_what_does_not_run_is_exit_code_1(hidream, served, tmp_path):
    code, _, err = hidream("serve", "--stop", "--data-dir", str(tmp_path))
    assert code == 1
    assert err == f"hidream: No server runs on {tmp_path}.\n"
    assert served == []


def test_restarting_what_does_not_run_serves(hidream, served, monkeypatch, tmp_path):
    def none_runs(*_: object, **__: object) -> int:
        raise NotRunningError

    monkeypatch.setattr(instance, "stop_instance", none_runs)
    assert hidream("serve", "--restart", "--data-dir", str(tmp_path))[0] == 0
    assert len(served) == 1


# The real program


def test_a_taken_port_ends_the_real_program_quickly_in_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "hidream_server", "serve", *DEMO]
        command += ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(tmp_path / "var")]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"hidream: Port {port} ")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "logs").exists()


def test_the_command_line_is_imported_without_torch():
    code = (
        "import sys; from hidream_server.cli import main, doctor, serving, instance;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_installed_command_is_this_one():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"hidream": "hidream_server.cli.main:run"}


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command."""
    group = typer.main.get_command(main.app)
    for name, command in group.commands.items():
        yield from [(name, below) for below in getattr(command, "commands", {})] or [(name,)]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_an_example_of_itself(hidream, words):
    code, out, _ = hidream(*words, "--help")
    assert code == 0
    text = " ".join(line.strip(" │") for line in out.splitlines())
    assert f"e.g. hidream {' '.join(words)}" in " ".join(text.split())
