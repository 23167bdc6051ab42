"""A launcher whose ranks are coroutines in the test's own process, each with one misbehaviour.

They speak the real protocol over the real control socket.
"""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable

import msgspec

from hidream_server.engine.launchers.launcher import LaunchOrder
from hidream_server.errors import GroupStartError
from hidream_server.ipc.messages import (
    Command,
    Event,
    GroupReady,
    Hello,
    ImageDone,
    LoadModel,
    Profile,
    StartTask,
    StepDone,
    Stop,
    TaskBegun,
    TaskDone,
)

LOAD = LoadModel(
    model_path="model",
    extra_model_path=None,
    device_type="cpu",
    layout="tp1",
    offloaded_encoders=[],
    log_level="INFO",
    prompt_cache_bytes=0,
    checkpoint_s=0.0,
    compile=False,
    step_cache=0.0,
    fp8=False,
    max_rows=4,
    max_row_tokens=4 * 256,
    profile=Profile(
        step_s={64: {1: 1.0, 2: 1.0, 4: 1.0}},
        beside_s={64: 0.0},
        preview_map=[[1.0, 0.5, 0.0], [0.0] * 3],
    ),
)


def frame(message: Event | Command) -> bytes:
    """Return a message as it travels."""
    body = msgspec.msgpack.encode(message)
    return struct.pack(">I", len(body)) + body


class FakeRank:
    """The far end of a control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, event: Event) -> None:
        self._writer.write(frame(event))
        await self._writer.drain()

    async def hear(self) -> Command | None:
        try:
            (length,) = struct.unpack(">I", await self._reader.readexactly(4))
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return msgspec.msgpack.decode(body, type=Command)

    async def do(self, start: StartTask, steps: int | None = None) -> None:
        """Run a task as a rank would, up to `steps` of its steps."""
        who = {"task_id": start.task_id, "attempt": start.attempt}
        await self.say(TaskBegun(**who))
        total = start.params.total_steps
        for done in range(1, min(total, steps or total) + 1):
            await self.say(StepDone(**who, steps_done=done))
        if steps is not None:
            return
        for index in range(start.params.num_images):
            await self.say(ImageDone(**who, image_index=index, data=b"picture %d" % index))
        await self.say(TaskDone(**who, timings={"denoise_s": 1.0}))


#: What a rank does after it has said hello.
Script = Callable[[FakeRank], Awaitable[None]]


async def well_behaved(rank: FakeRank) -> None:
    """Load, then do every task until told to stop."""
    while (command := await rank.hear()) is not None:
        match command:
            case LoadModel():
                await rank.say(GroupReady(load_s=1.5, memory_bytes=1000))
            case StartTask():
                await rank.do(command)
            case Stop():
                return


class FakeLauncher:
    """Starts one script for each group, in turn; the last one is used again and again."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts) or [well_behaved]
        self.starts = 0
        self.kills = 0

    async def start(self, order: LaunchOrder) -> None:
        script = self._scripts[min(self.starts, len(self._scripts) - 1)]
        self.starts += 1
        if script is cannot_start:
            raise GroupStartError("No devices left.")
        self.order = order
        self._rank = asyncio.create_task(self._run(script, order))

    async def wait(self) -> str:
        await asyncio.wait((self._rank,))
        return "the fake rank ended"

    async def kill(self) -> None:
        self.kills += 1
        self._rank.cancel()
        await asyncio.wait((self._rank,))

    async def _run(self, script: Script, order: LaunchOrder) -> None:
        reader, writer = await asyncio.open_connection(order.control.host, order.control.port)
        rank = FakeRank(reader, writer)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            await rank.say(Hello(token=order.control.token, rank=0))
            await script(rank)


async def cannot_start(rank: FakeRank) -> None:
    """Stands for a group that the launcher cannot start."""
