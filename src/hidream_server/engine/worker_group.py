"""One worker group: its control socket, the ranks on it, and their common end.

All ranks live and die together: the first one that leaves ends the group.
"""

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import signal
from collections.abc import Mapping

from hidream_server.engine.launchers.launcher import GroupLauncher, LaunchOrder
from hidream_server.errors import GroupLostError, ProtocolError
from hidream_server.ipc.channel import SupervisorChannel
from hidream_server.ipc.messages import Command, Event, Hello, Stop

logger = logging.getLogger(__name__)

#: How long ranks that were told to stop may take, in seconds.
_STOP_GRACE_S = 5.0

_HOST = "127.0.0.1"


class WorkerGroup:
    """`size` ranks that serve together; an async context manager that is one group's life."""

    def __init__(
        self,
        launcher: GroupLauncher,
        size: int,
        environment: Mapping[str, str],
        greeting: Command,
    ) -> None:
        """`greeting` is the first thing that each rank is told."""
        self._launcher = launcher
        self._size = size
        self._environment = environment
        self._greeting = greeting
        self._token = secrets.token_hex(16)
        #: Events of the ranks, a GroupLostError at the end, None when the supervisor woke itself.
        self._inbox: asyncio.Queue[Event | GroupLostError | None] = asyncio.Queue()
        self._ranks: dict[int, SupervisorChannel] = {}
        self._processes: list[int] = []

    async def __aenter__(self) -> "WorkerGroup":
        self._server = await asyncio.start_server(self._serve_rank, _HOST, 0)
        port = self._server.sockets[0].getsockname()[1]
        order = LaunchOrder(
            size=self._size,
            host=_HOST,
            port=port,
            token=self._token,
            environment=self._environment,
        )
        try:
            await self._launcher.start(order)
        except BaseException:
            self._server.close()
            raise
        self._watch = asyncio.create_task(self._watch_launcher())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ask the ranks to leave, end those that do not, and close the socket."""
        await self.send(Stop())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._launcher.wait(), _STOP_GRACE_S)
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
            os.close(process)
        await self._launcher.kill()
        self._watch.cancel()
        for channel in self._ranks.values():
            channel.close()
        self._server.close()

    async def send(self, command: Command) -> None:
        """Say something to every rank."""
        for channel in list(self._ranks.values()):
            await channel.send(command)

    async def next_event(self) -> Event | None:
        """Return the next event, None after `wake`; raise GroupLostError when the group ends."""
        item = await self._inbox.get()
        if isinstance(item, GroupLostError):
            raise item
        return item

    def wake(self) -> None:
        """Let `next_event` return."""
        self._inbox.put_nowait(None)

    async def _serve_rank(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = SupervisorChannel(reader, writer)
        try:
            hello = await channel.receive()
            if not isinstance(hello, Hello) or not hmac.compare_digest(hello.token, self._token):
                logger.warning("A stranger on the control socket was turned away")
                channel.close()
                return
            await self._welcome(hello, channel)
            while (event := await channel.receive()) is not None:
                self._inbox.put_nowait(event)
            self._lose(f"rank {hello.rank} left")
        except ProtocolError as error:
            self._lose(str(error))

    async def _welcome(self, hello: Hello, channel: SupervisorChannel) -> None:
        self._ranks[hello.rank] = channel
        # A handle, not a number: the number may belong to another process when it is used.
        with contextlib.suppress(ProcessLookupError):
            self._processes.append(os.pidfd_open(hello.pid))
        await channel.send(self._greeting)

    async def _watch_launcher(self) -> None:
        self._lose(await self._launcher.wait())

    def _lose(self, reason: str) -> None:
        self._inbox.put_nowait(GroupLostError(reason))
