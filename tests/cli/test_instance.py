"""One server owns a data directory, and only that one is ever signalled."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hidream_server.cli.instance import claim_instance, stop_instance
from hidream_server.errors import AlreadyRunningError, ConfigurationError, NotRunningError

#: Claims the directory named by its argument, says so, and then does as `body` says.
OWNER = """
import signal, sys
from pathlib import Path
from hidream_server.cli.instance import claim_instance
file = claim_instance(Path(sys.argv[1]))
{body}
print("claimed", flush=True)
signal.pause()
"""

Owner = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """Return a function that starts a process that owns the data directory."""
    started = []

    def start(body: str = "") -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", OWNER.format(body=body), str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "claimed\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def signals(monkeypatch) -> list[tuple[int, int]]:
    """Return a list of the signals that would have been sent; none is."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_the_owner_leaves_its_process_id_in_a_new_directory(tmp_path):
    data_dir = tmp_path / "new" / "var"
    with claim_instance(data_dir):
        assert (data_dir / "server.pid").read_text() == str(os.getpid())


def test_a_second_owner_is_refused_with_the_first_ones_process_id(tmp_path):
    with claim_instance(tmp_path), pytest.raises(AlreadyRunningError) as caught:
        claim_instance(tmp_path)
    message = str(caught.value)
    assert f"process {os.getpid()}" in message
    assert str(tmp_path) in message
    assert "--stop" in message
    assert "--data-dir" in message
    assert "\n" not in message


def test_a_refused_claim_leaves_the_owners_file_as_it_is(tmp_path):
    with claim_instance(tmp_path):
        with pytest.raises(AlreadyRunningError):
            claim_instance(tmp_path)
        assert (tmp_path / "server.pid").read_text() == str(os.getpid())


def test_an_owner_in_another_process_counts_too(tmp_path, owner):
    process = owner()
    with pytest.raises(AlreadyRunningError, match=f"process {process.pid}"):
        claim_instance(tmp_path)


def test_a_directory_is_free_again_when_its_owner_lets_go(tmp_path):
    claim_instance(tmp_path).close()
    claim_instance(tmp_path).close()


def test_a_directory_is_free_again_when_its_owner_is_killed(tmp_path, owner):
    process = owner()
    process.kill()
    process.wait()
    with claim_instance(tmp_path):
        assert (tmp_path / "server.pid").read_text() == str(os.getpid())


def test_two_directories_have_two_owners(tmp_path):
    with claim_instance(tmp_path / "a"), claim_instance(tmp_path / "b"):
        pass


def test_the_owner_is_stopped_and_waited_for(tmp_path, owner):
    process = owner()
    assert stop_instance(tmp_path, patience_s=30) == process.pid
    assert process.wait() == -signal.SIGTERM
    with claim_instance(tmp_path):
        pass


def test_stopping_waits_until_the_owner_has_finished(tmp_path, owner):
    # It takes its time: half a second between the signal and the end.
    body = (
        "import time\n"
        "def leave(*_):\n"
        "    time.sleep(0.5)\n"
        "    sys.exit(3)\n"
        "signal.signal(signal.SIGTERM, leave)"
    )
    process = owner(body)
    stop_instance(tmp_path, patience_s=30)
    assert process.wait(timeout=10) == 3


def test_an_owner_that_does_not_stop_in_time_is_reported(tmp_path, owner):
    process = owner("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with pytest.raises(ConfigurationError, match=f"{process.pid} has not stopped"):
        stop_instance(tmp_path, patience_s=0.2)
    assert process.poll() is None


def test_stopping_where_no_server_ever_ran_says_so(tmp_path, signals):
    with pytest.raises(NotRunningError, match=str(tmp_path)):
        stop_instance(tmp_path, patience_s=1)
    assert signals == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "content", [pytest.param(str(os.getpid()), id="own"), "1", "", "nonsense", "0", "-1"]
)
def test_a_process_named_in_a_file_that_nobody_holds_is_never_signalled(tmp_path, signals, content):
    (tmp_path / "server.pid").write_text(content)
    with pytest.raises(NotRunningError):
        stop_instance(tmp_path, patience_s=1)
    assert signals == []


@pytest.mark.parametrize("content", ["", "nonsense", "0", "-1"])
def test_a_held_file_that_names_no_process_leads_to_no_signal(tmp_path, signals, content):
    # A server that is just starting holds the file before it has written its number.
    path = tmp_path / "server.pid"
    path.write_text(content)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError):
            stop_instance(tmp_path, patience_s=0.1)
    assert signals == []


def test_an_owner_that_goes_while_it_is_being_stopped_is_no_error(tmp_path, owner, monkeypatch):
    process = owner()
    really_kill = os.kill

    def too_late(pid: int, _number: int) -> None:
        really_kill(pid, signal.SIGKILL)
        process.wait()
        raise ProcessLookupError(pid)

    monkeypatch.setattr(os, "kill", too_late)
    assert stop_instance(tmp_path, patience_s=10) == process.pid


def test_what_is_kept_is_nobody_elses_business(tmp_path):
    with claim_instance(tmp_path / "made"):
        assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    (tmp_path / "there").mkdir(mode=0o750)
    with claim_instance(tmp_path / "there"):
        assert (tmp_path / "there").stat().st_mode & 0o777 == 0o750
