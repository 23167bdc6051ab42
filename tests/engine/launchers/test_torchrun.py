"""How ranks are started: the command, the environment, and what is said without torch."""

import asyncio
import importlib.util
import os
import signal
import sys
from dataclasses import replace

import pytest
import uvloop

from hidream_server.engine.launchers import torchrun
from hidream_server.engine.launchers.launcher import Control, LaunchOrder
from hidream_server.engine.launchers.nodes import Nodes
from hidream_server.engine.launchers.torchrun import (
    TorchrunLauncher,
    require_torch,
    torchrun_command,
)
from hidream_server.errors import GroupStartError, TorchMissingError
from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN

ORDER = LaunchOrder(
    size=4,
    control=Control(host="127.0.0.1", port=4711, token="secret"),
    environment={"ASCEND_RT_VISIBLE_DEVICES": "0,1,2,3"},
)


class Started(Exception):
    """Raised in place of starting a process; carries how it would have been started."""

    def __init__(self, command: tuple[str, ...], environment: dict[str, str]) -> None:
        super().__init__(command)
        self.command = command
        self.environment = environment


@pytest.fixture
def start(monkeypatch):
    """Return a function that gives the command and the environment of a start."""

    async def catch(*command: str, env: dict[str, str], **_: object) -> None:
        raise Started(command, env)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", catch)

    def start(order: LaunchOrder = ORDER, nodes: Nodes | None = None) -> Started:
        with pytest.raises(Started) as caught:
            uvloop.run(TorchrunLauncher(torchrun_command, nodes=nodes).start(order))
        return caught.value

    return start


@pytest.fixture
def no_torch(monkeypatch):
    really_find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "torch" else really_find(name, *rest),
    )


def value_of(command: tuple[str, ...], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_the_agent_is_run_as_a_module_so_that_no_torchrun_on_path_is_needed(start):
    command = start().command
    assert command[:2] == (sys.executable, "-m")
    assert command[3:5] == ("-m", "torch.distributed.run")
    assert command[-2:] == ("-m", "hidream_server.worker")


def test_the_agent_starts_as_many_ranks_as_ordered_and_never_starts_them_again(start):
    command = start().command
    assert value_of(command, "--nproc-per-node") == "4"
    assert value_of(command, "--nnodes") == "1"
    assert value_of(command, "--max-restarts") == "0"


def test_the_ranks_meet_on_the_loopback_at_a_port_that_is_free(start):
    command = start().command
    assert value_of(command, "--rdzv-endpoint") == "127.0.0.1:0"
    assert value_of(command, "--local-addr") == "127.0.0.1"
    assert start().environment["GLOO_SOCKET_IFNAME"] == "lo"


def test_the_ranks_are_told_where_their_supervisor_is(start, monkeypatch):
    monkeypatch.setenv(CONTROL_ADDRESS, "10.0.0.1:1")
    monkeypatch.setenv(CONTROL_TOKEN, "of another server")
    environment = start().environment
    assert environment[CONTROL_ADDRESS] == "127.0.0.1:4711"
    assert environment[CONTROL_TOKEN] == "secret"


FIRST = Nodes(count=2, rank=0, host="10.0.0.1", port=29400, devices=2)


def test_machines_meet_at_the_first_which_has_rank_0(start):
    command = start(nodes=FIRST).command
    assert value_of(command, "--nnodes") == "2"
    assert value_of(command, "--node-rank") == "0"
    assert value_of(command, "--nproc-per-node") == "2"
    assert value_of(command, "--rdzv-endpoint") == "10.0.0.1:29400"
    # The other backend of torchrun's numbers machines as they come.
    assert value_of(command, "--rdzv-backend") == "static"


def test_ranks_on_several_machines_are_not_held_to_the_loopback(start, monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert "GLOO_SOCKET_IFNAME" not in start(nodes=FIRST).environment


def test_a_smaller_group_is_one_of_the_first_machine_alone(start):
    started = start(replace(ORDER, size=2), nodes=FIRST)
    assert value_of(started.command, "--nnodes") == "1"
    assert started.environment["GLOO_SOCKET_IFNAME"] == "lo"


def test_ranks_of_another_machine_are_not_told_by_what_was_exported_here(start, monkeypatch):
    monkeypatch.setenv(CONTROL_ADDRESS, "10.0.0.1:1")
    monkeypatch.setenv(CONTROL_TOKEN, "of another server")
    started = start(replace(ORDER, control=None), nodes=replace(FIRST, rank=1))
    assert value_of(started.command, "--node-rank") == "1"
    assert not {CONTROL_ADDRESS, CONTROL_TOKEN} & started.environment.keys()


def test_the_token_is_not_on_the_command_line_where_everybody_could_read_it(start):
    assert not any("secret" in part for part in start().command)


def test_what_the_user_has_exported_is_kept(start, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HCCL_CONNECT_TIMEOUT", "600")
    environment = start().environment
    assert environment["GLOO_SOCKET_IFNAME"] == "eth1"
    assert environment["HF_HUB_OFFLINE"] == "0"
    assert environment["HCCL_CONNECT_TIMEOUT"] == "600"


def test_nothing_is_fetched_by_default(start, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert start().environment["HF_HUB_OFFLINE"] == "1"


def test_the_devices_that_were_chosen_beat_an_exported_list(start, monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "7")
    assert start().environment["ASCEND_RT_VISIBLE_DEVICES"] == "0,1,2,3"


def test_starting_leaves_this_process_own_environment_alone(start, monkeypatch):
    monkeypatch.delenv(CONTROL_TOKEN, raising=False)
    start()
    assert CONTROL_TOKEN not in torchrun.os.environ


@pytest.mark.usefixtures("no_torch")
def test_without_torch_the_error_names_the_interpreter_and_the_fix(start):
    with pytest.raises(TorchMissingError) as caught:
        uvloop.run(TorchrunLauncher(torchrun_command).start(ORDER))
    message = str(caught.value)
    assert sys.executable in message
    assert "scripts/start_hidream_service.sh" in message
    assert "pip install" in message
    assert "\n" not in message


def test_with_torch_nothing_is_said():
    require_torch()


def test_killing_what_was_never_started_is_no_error():
    uvloop.run(TorchrunLauncher(torchrun_command).kill())


def run_in_place_of_ranks(program: str) -> TorchrunLauncher:
    """Return a launcher whose torchrun is a small program."""
    return TorchrunLauncher(lambda _size: [sys.executable, "-c", program])


def test_output_without_end_does_no_harm(caplog):
    launcher = run_in_place_of_ranks("print('x' * 1_000_000, end=''); raise SystemExit(3)")

    async def life() -> str:
        await launcher.start(ORDER)
        return await launcher.wait()

    assert uvloop.run(asyncio.wait_for(life(), 30)) == "the ranks ended with code 3"
    assert "xxx" in caplog.text
    assert len(caplog.text) < 200_000


def test_ranks_give_way_as_far_as_they_are_told_to(caplog):
    program = "import os; print('niceness', os.nice(0)); raise SystemExit(3)"
    mine = os.nice(0)
    launcher = TorchrunLauncher(lambda _size: [sys.executable, "-c", program], niceness=3)

    async def life() -> None:
        await launcher.start(ORDER)
        await launcher.wait()

    uvloop.run(asyncio.wait_for(life(), 30))
    assert f"niceness {mine + 3}" in caplog.text


def test_an_end_of_our_own_making_is_no_error(caplog):
    launcher = run_in_place_of_ranks("import time; print('up', flush=True); time.sleep(60)")

    async def life() -> None:
        await launcher.start(ORDER)
        await launcher.kill()
        await launcher.wait()

    uvloop.run(asyncio.wait_for(life(), 30))
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_an_agent_that_ignores_the_first_signal_is_killed(monkeypatch):
    monkeypatch.setattr(torchrun, "_TERM_GRACE_S", 0.2)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(60)"
    )
    launcher = run_in_place_of_ranks(stubborn)

    async def life() -> str:
        await launcher.start(ORDER)
        while not launcher._output:
            await asyncio.sleep(0.01)
        await launcher.kill()
        return await launcher.wait()

    assert uvloop.run(asyncio.wait_for(life(), 30)) == "the ranks ended with code -9"


def test_an_end_is_noticed_though_a_rank_outlives_it_and_holds_the_output(tmp_path):
    orphan = "import time; print('up', flush=True); time.sleep(60)"
    launcher = run_in_place_of_ranks(
        "import os, subprocess, sys;"
        f"rank = subprocess.Popen([sys.executable, '-c', {orphan!r}]);"
        f"print(rank.pid, file=open({str(tmp_path / 'pid')!r}, 'w'), flush=True);"
        "os.kill(os.getpid(), 9)"
    )

    async def life() -> str:
        await launcher.start(ORDER)
        try:
            return await launcher.wait()
        finally:
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    assert uvloop.run(asyncio.wait_for(life(), 30)) == "the ranks ended with code -9"


def test_a_program_that_cannot_be_started_is_a_group_that_cannot():
    with pytest.raises(GroupStartError, match="No such file"):
        uvloop.run(TorchrunLauncher(lambda _size: ["/no/such/program"]).start(ORDER))
