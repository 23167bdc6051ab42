"""Framing over real sockets: what is said arrives, what is not in the protocol is refused."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import get_args

import msgspec
import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hidream_server.errors import ProtocolError
from hidream_server.ipc.channel import MAX_FRAME_BYTES, RankChannel, SupervisorChannel
from hidream_server.ipc.messages import (
    CancelTask,
    Checkpoint,
    Command,
    Event,
    GroupReady,
    Hello,
    ImageDone,
    LoadFailed,
    LoadModel,
    LoadProject,
    LogLine,
    Preview,
    Profile,
    RankUsage,
    StartTask,
    StepDone,
    Stop,
    TaskBegun,
    TaskDone,
    TaskFailed,
)
from hidream_server.task import InferType
from tests.support import params

PROFILE = Profile(step_s={64: {1: 0.5, 2: 0.75}}, beside_s={64: 0.0}, preview_map=[[1.0, 0.5, 0.0]])
COMMANDS: list[Command] = [
    LoadModel(
        model_path="/data/模型",
        extra_model_path=None,
        device_type="cpu",
        layout="cfg2-sp4",
        offloaded_encoders=["text_encoder_4"],
        log_level="INFO",
        prompt_cache_bytes=2**40,
        checkpoint_s=2.5,
        compile=True,
        step_cache=0.05,
        fp8=True,
        max_rows=8,
        max_row_tokens=8192,
        profile=PROFILE,
    ),
    LoadProject(
        project_path="/workspace/HiDream-I1",
        work_path="/var/project",
        model_path="/data/模型",
        extra_model_path="/data/llama",
        layout="tp4",
        log_level="INFO",
    ),
    StartTask(
        task_id="t",
        attempt=3,
        arrived_at=1.5,
        client="10.0.0.1",
        steps_by=60.5,
        params=params(infer_type=InferType.PROFILING, prompt="红"),
    ),
    CancelTask(task_id="t", attempt=3),
    Stop(),
]
EVENTS: list[Event] = [
    Hello(token="secret", rank=7),
    GroupReady(load_s=1.5, memory_bytes=2**36, profile=PROFILE),
    LoadFailed(reason="no such file"),
    StepDone(task_id="t", attempt=1, steps_done=9, rows=4, step_s=0.25),
    Preview(task_id="t", attempt=1, image_index=2, data=b"PNG"),
    TaskBegun(task_id="t", attempt=1),
    ImageDone(task_id="t", attempt=1, image_index=2, data=bytes(range(256)) * 2000),
    TaskDone(task_id="t", attempt=1, timings={"denoise_s": 1.25}),
    TaskFailed(task_id="t", attempt=1, reason="out of memory"),
    RankUsage(rank=1, peak_memory_bytes=2**40, prompts=3, prompts_cached=1),
    LogLine(rank=0, level=20, logger="a.b", text="line\nline", task_id=None),
    Checkpoint(task_id="t", attempt=3, data=bytes(range(256))),
]


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def encoded(message: object) -> bytes:
    return frame(msgspec.msgpack.encode(message))


@contextmanager
def rank_channel() -> Iterator[tuple[RankChannel, socket.socket]]:
    """Yield a rank's channel and the raw socket at its other end."""
    ours, theirs = socket.socketpair()
    channel = RankChannel(ours)
    with ours, theirs:
        yield channel, theirs


def rank_receives(data: bytes) -> list[Command]:
    """Return what a rank reads from these bytes until their end."""
    with rank_channel() as (channel, other):

        def send() -> None:
            other.sendall(data)
            other.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        try:
            return list(iter(channel.receive, None))
        finally:
            sending.join()


def supervisor_receives(data: bytes) -> list[Event]:
    """Return what a supervisor reads from these bytes until their end."""

    async def receive() -> list[Event]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        channel = SupervisorChannel(reader, None)  # type: ignore[arg-type]
        events = []
        while (event := await channel.receive()) is not None:
            events.append(event)
        return events

    return uvloop.run(receive())


#: Both ends read the same frames; each with a message that it understands.
ENDS = pytest.mark.parametrize(
    ("receives", "message"),
    [(rank_receives, COMMANDS[1]), (supervisor_receives, EVENTS[3])],
    ids=["rank", "supervisor"],
)
Receives = Callable[[bytes], list[object]]


def test_every_type_of_message_is_tried_here():
    assert {type(command) for command in COMMANDS} == set(get_args(Command))
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def test_every_message_crosses_a_real_connection_unchanged_and_in_order():
    async def converse() -> tuple[list[Event], list[Command]]:
        events: list[Event] = []
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            channel = SupervisorChannel(reader, writer)
            for command in COMMANDS:
                await channel.send(command)
            while (event := await channel.receive()) is not None:
                events.append(event)
            channel.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            done.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        commands = await asyncio.to_thread(be_a_rank, port)
        await done.wait()
        server.close()
        return events, commands

    def be_a_rank(port: int) -> list[Command]:
        channel = RankChannel.connect("127.0.0.1", port)
        commands = [channel.receive() for _ in COMMANDS]
        for event in EVENTS:
            channel.send(event)
        channel.close()
        return [command for command in commands if command is not None]

    assert uvloop.run(converse()) == (EVENTS, COMMANDS)


def test_a_rank_may_send_from_several_threads_at_once():
    senders, each = 4, 30
    with rank_channel() as (channel, other):

        def send(rank: int) -> None:
            for step in range(each):
                data = bytes([rank]) * 30_000
                channel.send(ImageDone(task_id="t", attempt=rank, image_index=step, data=data))

        def send_all() -> None:
            threads = [threading.Thread(target=send, args=(rank,)) for rank in range(senders)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            channel.close()

        sending = threading.Thread(target=send_all)
        sending.start()
        received = bytearray()
        while chunk := other.recv(2**16):
            received += chunk
        sending.join()
    events = supervisor_receives(bytes(received))
    for rank in range(senders):
        mine = [event for event in events if event.attempt == rank]
        assert [event.image_index for event in mine] == list(range(each))
        assert all(event.data == bytes([rank]) * 30_000 for event in mine)


def test_a_frame_that_comes_in_pieces_is_put_together():
    data = encoded(COMMANDS[1])
    with rank_channel() as (channel, other):

        def trickle() -> None:
            for position in range(len(data)):
                other.send(data[position : position + 1])

        thread = threading.Thread(target=trickle)
        thread.start()
        assert channel.receive() == COMMANDS[1]
        thread.join()


@ENDS
def test_the_end_of_the_connection_is_none(receives: Receives, message: object):
    assert receives(b"") == []
    assert receives(encoded(message) * 2) == [message, message]


@ENDS
def test_a_frame_cut_anywhere_is_the_end_of_the_connection(receives: Receives, message: object):
    whole = encoded(message)
    for length in range(len(whole)):
        assert receives(whole[:length]) == []


@ENDS
def test_a_frame_above_the_limit_is_refused_before_its_body_is_read(
    receives: Receives, message: object
):
    with pytest.raises(ProtocolError, match=str(MAX_FRAME_BYTES + 1)):
        receives(struct.pack(">I", MAX_FRAME_BYTES + 1))
    assert receives(struct.pack(">I", MAX_FRAME_BYTES)) == []


@ENDS
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n",
        msgspec.msgpack.encode(None),
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode({"type": "Unknown"}),
        msgspec.msgpack.encode({"type": "StepDone", "task_id": "t"}),
        msgspec.msgpack.encode({"type": "StartTask", "task_id": 1, "attempt": 1, "params": {}}),
        b"\x81\xa4type\xa2\xff\xfe",
    ],
    ids=["empty", "reserved", "http", "nil", "no tag", "tag", "field missing", "type", "utf-8"],
)
def test_a_body_that_is_no_message_of_this_direction_is_refused(
    receives: Receives, message: object, body: bytes
):
    with pytest.raises(ProtocolError):
        receives(frame(body))


def test_neither_end_takes_messages_of_its_own_direction():
    for command in COMMANDS:
        with pytest.raises(ProtocolError):
            supervisor_receives(encoded(command))
    for event in EVENTS:
        with pytest.raises(ProtocolError):
            rank_receives(encoded(event))


@settings(max_examples=40)
@given(body=st.binary(max_size=200))
@example(body=b"\x82\xa4type\xa4Stop\xa1x" + b"\x91" * 100_000)
@example(body=b"\x82\xa4type\xaaLoadFailed\xa6reason\xa1\xff")
def test_random_bytes_are_refused_and_never_another_error(body: bytes):
    for receives in (rank_receives, supervisor_receives):
        with pytest.raises(ProtocolError):
            receives(frame(body))


@settings(max_examples=60)
@given(data=st.data())
def test_a_message_with_a_byte_changed_is_read_or_refused_and_never_another_error(data):
    for receives, message in ((rank_receives, COMMANDS[1]), (supervisor_receives, EVENTS[7])):
        body = bytearray(msgspec.msgpack.encode(message))
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        try:
            assert len(receives(frame(bytes(body)))) == 1
        except ProtocolError:
            continue


def test_sending_to_a_rank_that_has_gone_is_no_error():
    async def send() -> None:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            channel = SupervisorChannel(reader, writer)
            assert await channel.receive() is None
            for _ in range(3):
                await channel.send(COMMANDS[0])
            channel.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            await channel.send(COMMANDS[0])
            gone.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.transport.abort()
        await gone.wait()
        server.close()

    uvloop.run(send())


def test_a_connection_reset_by_the_supervisor_is_the_end_for_a_rank():
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel = RankChannel.connect(*server.getsockname()[:2])
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        assert channel.receive() is None
        channel.close()


def test_a_far_end_that_vanishes_is_noticed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        channel = RankChannel.connect(*listener.getsockname())
        with listener.accept()[0]:
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            idle, interval, count = (
                channel._socket.getsockopt(socket.IPPROTO_TCP, option) for option in options
            )
            assert channel._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert idle + interval * count == 30
            assert channel._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            channel.close()
