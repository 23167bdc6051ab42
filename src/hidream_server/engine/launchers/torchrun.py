"""Starts the ranks of a group that are on this machine: by torch's own elastic launcher."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence

from hidream_server.engine.launchers.launcher import LaunchOrder
from hidream_server.engine.launchers.nodes import Nodes
from hidream_server.errors import GroupStartError, TorchMissingError
from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN

logger = logging.getLogger(__name__)

#: How long the agent may take to end its ranks when asked, before it is killed.
_TERM_GRACE_S = 5.0
#: Output is read in pieces of so many bytes; a longer line is cut.
_CHUNK_BYTES = 2**16
#: Output that is still to come when the agent has ended is waited for so long, in seconds.
_LAST_LINES_S = 1.0
#: How many lines of output are kept to explain an end.
_LINES_KEPT = 40
#: How long the agents of other machines are waited for, on the first and on those, in seconds.
_MEETING_S, _WAITING_S = 60, 86_400
_CONTROL = (CONTROL_ADDRESS, CONTROL_TOKEN)

#: Nothing is fetched at run time.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}
#: Ranks talk to each other on this machine only.
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}


class TorchrunLauncher:
    """One agent process and its ranks."""

    def __init__(
        self, command: Callable[[int], list[str]], niceness: int = 0, nodes: Nodes | None = None
    ) -> None:
        """`command` says what starts so many ranks, which give way to others by `niceness`.

        Where there are more than this machine has devices, they are on all of `nodes`.
        """
        self._command = command
        self._nodes = nodes
        self._giving_way = ["nice", "-n", str(niceness)] if niceness else []
        self._agent: asyncio.subprocess.Process | None = None
        self._output: deque[str] = deque(maxlen=_LINES_KEPT)
        self._ended: asyncio.Task[str] | None = None
        self._killed = False

    async def start(self, order: LaunchOrder) -> None:
        """Start the agent; it is run as a module, so that no `torchrun` on PATH is needed."""
        require_torch()
        self._output.clear()
        self._killed = False
        nodes = self._nodes if self._nodes and self._nodes.spans(order.size) else None
        command = self._command(order.size) if nodes is None else spanning_command(nodes)
        output, theirs = os.pipe()
        try:
            self._agent = await asyncio.create_subprocess_exec(
                *self._giving_way,
                *command,
                env={
                    **inherited_environment(spans=nodes is not None),
                    **order.environment,
                    **(order.control.environment if order.control else {}),
                },
                stdin=asyncio.subprocess.DEVNULL,
                # Not a pipe of asyncio's, which knows of no end while anyone holds the pipe: a
                # rank that outlives a killed agent does.
                stdout=theirs,
                stderr=asyncio.subprocess.STDOUT,
                # Ctrl-C in a terminal is for the server alone, which drains while the ranks go on.
                start_new_session=True,
            )
        except OSError as error:
            os.close(output)
            raise GroupStartError(f"The ranks could not be started: {error}.") from error
        finally:
            os.close(theirs)
        self._ended = asyncio.create_task(self._follow(self._agent, output))

    async def wait(self) -> str:
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    async def kill(self) -> None:
        """Ask the agent to end its ranks, then insist: they die with it, even stopped ones."""
        if self._agent is None or self._ended is None:
            return
        self._killed = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                self._agent.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._ended), _TERM_GRACE_S)
                return

    async def _follow(self, agent: asyncio.subprocess.Process, output: int) -> str:
        """Keep what the agent and the ranks print, and say in the end how they ended."""
        reader = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", buffering=0)
        )
        reading = asyncio.create_task(self._read(reader))
        code = await agent.wait()
        await asyncio.wait({reading}, timeout=_LAST_LINES_S)
        pipe.close()
        reading.cancel()
        if code != 0 and not self._killed:
            logger.error("The ranks ended with code %s:\n%s", code, "\n".join(self._output))
        return f"the ranks ended with code {code}"

    async def _read(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await output.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                self._keep(line)
            rest = rest[-_CHUNK_BYTES:]
        self._keep(rest)

    def _keep(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text:
            self._output.append(text)
            logger.debug("%s", text)


def require_torch() -> None:
    """Raise TorchMissingError, naming the fix, where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise TorchMissingError(
            f"PyTorch is not installed for {sys.executable}: run"
            " bash scripts/start_hidream_service.sh, or pip install -c constraints.txt torch."
        )


def torchrun_command(size: int, module: str = "hidream_server.worker") -> list[str]:
    """Return the command of torchrun's agent for so many ranks of a module."""
    # An explicit loopback rendezvous: --standalone looks the host name up, which may hang.
    meeting = ("--nnodes", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0")
    return _agent(size, (*meeting, "--local-addr", "127.0.0.1"), module)


def spanning_command(nodes: Nodes, module: str = "hidream_server.worker") -> list[str]:
    """Return the command of this machine's agent, which waits for those of the others."""
    # The first machine does without the others after a while; they may come at any time.
    patience_s = _MEETING_S if nodes.rank == 0 else _WAITING_S
    meeting = (
        *("--nnodes", str(nodes.count), "--node-rank", str(nodes.rank)),
        # Ranks are numbered by their machines', and rank 0 is where its supervisor is.
        *("--rdzv-backend", "static", "--rdzv-endpoint", f"{nodes.host}:{nodes.port}"),
        *("--rdzv-conf", f"timeout={patience_s}"),
    )
    return _agent(nodes.devices, meeting, module)


def _agent(here: int, meeting: Sequence[str], module: str) -> list[str]:
    return [
        sys.executable,
        # A rank that stands still does not see that the server is gone: it dies with its agent,
        # and so that must die with the server.
        *("-m", "hidream_server.ipc.bound", "-m", "torch.distributed.run"),
        *("--nproc-per-node", str(here), "--max-restarts", "0", *meeting),
        *("--monitor-interval", "0.2"),
        # Output comes to us; without this each agent leaves a folder behind where others lie.
        *("--log-dir", os.devnull),
        *("-m", module),
    ]


def inherited_environment(spans: bool = False) -> dict[str, str]:
    """Return what ranks are told beside their orders: what the user exported wins.

    Unless their group `spans` machines they talk to each other on the loopback.
    """
    # One that waits to be told where its supervisor is must not be told by what was exported here.
    exported = {name: value for name, value in os.environ.items() if name not in _CONTROL}
    return {**_ENVIRONMENT, **({} if spans else _LOOPBACK), **exported}
