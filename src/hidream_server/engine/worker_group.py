"""One worker group: its control socket, the ranks on it, and their common end.

All ranks live and die together: the first one that leaves ends the group.
"""

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Mapping

from hidream_server.engine.launchers.launcher import Control, GroupLauncher, LaunchOrder
from hidream_server.engine.launchers.nodes import LOCALHOST
from hidream_server.errors import GroupLostError, GroupStartError, ProtocolError
from hidream_server.ipc.channel import SupervisorChannel, keep_alive
from hidream_server.ipc.messages import Command, Event, Hello, Stop

logger = logging.getLogger(__name__)

#: How long ranks that were told to stop may take, in seconds.
_STOP_GRACE_S = 5.0

#: How long a connection may take to say hello.
_HELLO_GRACE_S = 10.0
#: How long the end of a group may take to explain itself.
_LAST_WORDS_S = 1.0
#: A hello is short; nobody may make us keep more before we know them.
MAX_HELLO_BYTES = 2**10


class WorkerGroup:
    """`size` ranks that serve together; an async context manager that is one group's life."""

    def __init__(
        self,
        launcher: GroupLauncher,
        size: int,
        environment: Mapping[str, str],
        greeting: Command,
        host: str = LOCALHOST,
    ) -> None:
        """`greeting` is the first thing that each rank is told, who finds us at `host`."""
        self._launcher = launcher
        self._size = size
        self._environment = environment
        self._greeting = greeting
        self._host = host
        self._token = secrets.token_hex(16)
        #: Events of the ranks, a GroupLostError at the end, None when the supervisor woke itself.
        self._inbox: asyncio.Queue[Event | GroupLostError | None] = asyncio.Queue()
        self._ranks: dict[int, SupervisorChannel] = {}
        #: One for each connection, until it ends.
        self._talks: set[asyncio.Task[None]] = set()
        self._rank_left = asyncio.Event()
        self._first_to_leave: int | None = None

    async def __aenter__(self) -> "WorkerGroup":
        try:
            self._server = await asyncio.start_server(self._serve_rank, self._host, 0)
        except OSError as error:
            raise GroupStartError(f"Nobody can be heard at {self._host}: {error}.") from error
        port = self._server.sockets[0].getsockname()[1]
        order = LaunchOrder(
            size=self._size,
            control=Control(host=self._host, port=port, token=self._token),
            environment=self._environment,
        )
        try:
            await self._launcher.start(order)
        except BaseException:
            self._server.close()
            raise
        self._watch = asyncio.create_task(self._watch_end())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ask the ranks to leave, end those that do not, and close the socket."""
        await self.send(Stop())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._launcher.wait(), _STOP_GRACE_S)
        await self._launcher.kill()
        self._watch.cancel()
        self._server.close()
        for talk in list(self._talks):
            talk.cancel()

    async def send(self, command: Command) -> None:
        """Say something to rank 0, which decides for all."""
        if 0 in self._ranks:
            await self._ranks[0].send(command)

    async def next_event(self) -> Event | None:
        """Return the next event, None after `wake`; raise GroupLostError when the group ends."""
        item = await self._inbox.get()
        if isinstance(item, GroupLostError):
            raise item
        return item

    @property
    def has_said_more(self) -> bool:
        """Something is there for `next_event`."""
        return not self._inbox.empty()

    def wake(self) -> None:
        """Let `next_event` return."""
        self._inbox.put_nowait(None)

    async def _serve_rank(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take in what a rank says until it leaves."""
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        channel = SupervisorChannel(reader, writer)
        try:
            keep_alive(writer.get_extra_info("socket"))
            rank = await self._greet(channel)
            if rank is not None:
                while (event := await channel.receive()) is not None:
                    self._inbox.put_nowait(event)
                self._first_to_leave = (
                    rank if self._first_to_leave is None else self._first_to_leave
                )
                self._rank_left.set()
        except ProtocolError as error:
            self._inbox.put_nowait(GroupLostError(str(error)))
        except asyncio.CancelledError:
            # The group is closed. Python 3.11 would log a task that ends by cancellation.
            return
        finally:
            self._talks.discard(talk)
            channel.close()

    async def _greet(self, channel: SupervisorChannel) -> int | None:
        """Return the rank that said hello with our token; anyone else is shown the door."""
        hello = None
        with contextlib.suppress(TimeoutError, ProtocolError):
            hello = await asyncio.wait_for(channel.receive(MAX_HELLO_BYTES), _HELLO_GRACE_S)
        if not isinstance(hello, Hello) or not self._is_ours(hello):
            logger.warning("A stranger on the control socket was turned away")
            return None
        self._ranks[hello.rank] = channel
        await channel.send(self._greeting)
        return hello.rank

    def _is_ours(self, hello: Hello) -> bool:
        """It knows the token, and is one of those that are still to come."""
        if not _same(hello.token, self._token):
            return False
        awaited = hello.rank in range(self._size) and hello.rank not in self._ranks
        if not awaited:
            logger.error("Rank %d is not awaited in a group of %d", hello.rank, self._size)
        return awaited

    async def _watch_end(self) -> None:
        """Report the group's end once: when a rank has left, or the launcher has ended."""
        ended = asyncio.create_task(self._launcher.wait())
        left = asyncio.create_task(self._rank_left.wait())
        try:
            await asyncio.wait((ended, left), return_when=asyncio.FIRST_COMPLETED)
            # The one that came later tells the rest: the reason, or the ranks' last words.
            await asyncio.wait((ended, *self._talks), timeout=_LAST_WORDS_S)
            reasons = [] if self._first_to_leave is None else [f"rank {self._first_to_leave} left"]
            reasons += [ended.result()] if ended.done() else []
            self._inbox.put_nowait(GroupLostError(", ".join(reasons)))
        finally:
            ended.cancel()
            left.cancel()


def _same(token: str, expected: str) -> bool:
    return hmac.compare_digest(token.encode(errors="replace"), expected.encode())
