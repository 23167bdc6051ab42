"""Starts the ranks of a group as actors of Ray, in bundles of one placement group on this machine.

An actor does no more than to be the parent of a rank's own process, which ends with it. Nothing
else knows that there is Ray, but for `cli/cluster`.
"""

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hidream_server.engine.launchers.launcher import LaunchOrder
from hidream_server.engine.launchers.torchrun import inherited_environment, require_torch
from hidream_server.errors import DeviceUnavailableError, GroupStartError

logger = logging.getLogger(__name__)

#: A line of output that is longer is cut into pieces.
_LINE_BYTES = 2**16
#: How many lines of output are kept to explain an end.
_LINES_KEPT = 40
#: An actor that is killed may take so long to be gone, in seconds.
_GONE_S = 10.0

#: The ranks lie on one machine, as the placement group does.
_HOST = "127.0.0.1"

#: What Ray calls devices that it gives out by their numbers.
_COUNTED = ("NPU", "GPU")


class RankProcess:
    """What an actor is: the parent of one rank."""

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, list[str]]:
        """Return, once the rank has ended, its exit code and what it printed last."""
        kept: deque[str] = deque(maxlen=_LINES_KEPT)
        with subprocess.Popen(
            command,
            env={**inherited_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            while line := process.stdout.readline(_LINE_BYTES):
                kept.append(line.decode(errors="replace").rstrip())
        return process.returncode, list(kept)


class RayLauncher:
    """An actor for each rank; the first to end takes all others with it."""

    def __init__(
        self, group: PlacementGroup, bundles: Sequence[Mapping[str, float]], niceness: int = 0
    ) -> None:
        """`bundles` are those that ranks may have, which follow the supervisor's in the group."""
        self._group = group
        self._bundles = bundles
        self._giving_way = ["nice", "-n", str(niceness)] if niceness else []
        self._actors: list[Any] = []
        self._ended: asyncio.Task[str] | None = None
        self._killed = False

    async def start(self, order: LaunchOrder) -> None:
        require_torch()
        self._killed = False
        try:
            # Beside the loop: who has lost its head node may be kept waiting for it.
            runs = await asyncio.to_thread(self._start_all, order)
        except RayError as error:
            raise GroupStartError(f"The ranks could not be started: {error}.") from error
        self._ended = asyncio.create_task(self._follow(runs))

    async def wait(self) -> str:
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    async def kill(self) -> None:
        self._killed = True
        await asyncio.to_thread(self._kill_all)
        if self._ended is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._ended), _GONE_S)

    def _start_all(self, order: LaunchOrder) -> list[Any]:
        control = order.control
        assert control is not None
        shared = {
            **order.environment,
            **control.environment,
            "MASTER_ADDR": _HOST,
            "MASTER_PORT": str(_free_port()),
            "WORLD_SIZE": str(order.size),
            "LOCAL_WORLD_SIZE": str(order.size),
        }
        command = [*self._giving_way, sys.executable, "-m", "hidream_server.worker"]
        self._actors = [self._actor(rank) for rank in range(order.size)]
        return [
            actor.run.remote(command, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank, actor in enumerate(self._actors)
        ]

    def _actor(self, rank: int) -> Any:
        options = _within(self._group, rank, self._bundles[rank])
        return ray.remote(RankProcess).options(max_restarts=0, **options).remote()

    def _kill_all(self) -> None:
        for actor in self._actors:
            with contextlib.suppress(RayError):
                ray.kill(actor)

    async def _follow(self, runs: Sequence[Any]) -> str:
        """Wait for the first end, make it the end of all, and say how it came."""
        ends = [asyncio.create_task(self._end(rank, run)) for rank, run in enumerate(runs)]
        first, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(self._kill_all)
        if others:
            await asyncio.wait(others)
        return ", ".join(end.result() for end in ends if end in first)

    async def _end(self, rank: int, run: Any) -> str:
        try:
            code, output = await run
        except RayError as error:
            return f"the actor of rank {rank} ended: {type(error).__name__}"
        if code != 0 and not self._killed:
            logger.error("Rank %d ended with code %s:\n%s", rank, code, "\n".join(output))
        return f"rank {rank} ended with code {code}"


def device_ids(group: PlacementGroup, bundles: Sequence[Mapping[str, float]]) -> tuple[int, ...]:
    """Return the devices that Ray has given to the bundles of ranks, as this machine numbers them.

    Of a kind that Ray does not count there are as many as there are bundles.
    """
    resource = next((name for name in _COUNTED if name in bundles[0]), None)
    if resource is None:
        return tuple(range(len(bundles)))
    asked = [
        ray.remote(_accelerators).options(**_within(group, rank, bundle)).remote(resource)
        for rank, bundle in enumerate(bundles)
    ]
    names = [name for given in ray.get(asked) for name in given]
    if odd := [name for name in names if not name.isdigit()]:
        raise DeviceUnavailableError(
            f"Ray calls a device {odd[0]!r}, and its number is needed: list devices by numbers"
            " where the node is started."
        )
    return tuple(sorted(int(name) for name in names))


def _accelerators(resource: str) -> list[str]:
    return list(ray.get_runtime_context().get_accelerator_ids()[resource])


def _within(group: PlacementGroup, rank: int, bundle: Mapping[str, float]) -> dict[str, Any]:
    """Return the options of what is to have the whole bundle of a rank."""
    rest = {name: count for name, count in bundle.items() if name not in ("CPU", "GPU")}
    return {
        "num_cpus": bundle.get("CPU", 0),
        "num_gpus": bundle.get("GPU", 0),
        "resources": rest,
        # The supervisor has the first one.
        "scheduling_strategy": PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=rank + 1
        ),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
