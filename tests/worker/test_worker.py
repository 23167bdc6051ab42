"""Real rank processes with a model that is a formula, and a test that plays the supervisor."""

import contextlib
import io
import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import ANY

import msgspec
import pytest
from msgspec import structs
from PIL import Image

from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN
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
    LogLine,
    Preview,
    RankUsage,
    StartTask,
    StepDone,
    Stop,
    TaskBegun,
    TaskDone,
    TaskFailed,
)
from tests.e2e.server import free_port
from tests.engine.fake_ranks import LOAD, frame
from tests.support import params
from tests.worker import program

#: Forked from a process that has imported torch once for all of them.
PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload([program.__name__, "hidream_server.worker.worker"])


@dataclass
class Rank:
    """A rank process, and the supervisor's end of its socket."""

    process: BaseProcess
    socket: socket.socket

    def wait(self, seconds: float) -> int:
        """Return how the process has ended, which it must within so many seconds."""
        self.process.join(seconds)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def tell(self, command: Command) -> None:
        self.socket.sendall(frame(command))

    def hear(self, *kinds: type[Event]) -> Event:
        """Return the next event; of these kinds only, if any are named."""
        while True:
            (length,) = struct.unpack(">I", self._read(4))
            event = msgspec.msgpack.decode(self._read(length), type=Event)
            if isinstance(event, kinds) if kinds else not isinstance(event, LogLine | RankUsage):
                return event

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self.socket.recv(count - len(data))
            assert chunk, "the rank has gone"
            data += chunk
        return data


@contextlib.contextmanager
def group(size: int = 1, load: LoadModel = LOAD, turns: Path | None = None) -> Iterator[list[Rank]]:
    """Start ranks as torchrun would, and tell them to load."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        environment = {
            CONTROL_ADDRESS: f"127.0.0.1:{server.getsockname()[1]}",
            CONTROL_TOKEN: "secret",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": str(size),
            "GLOO_SOCKET_IFNAME": "lo",
            "TURNS_FOLDER": str(turns or ""),
        }
        ranks: dict[int, Rank] = {}
        processes = []
        for number in range(size):
            own = {"RANK": str(number), "LOCAL_RANK": str(number)}
            processes.append(PROCESSES.Process(target=program.run, args=(environment | own,)))
            processes[-1].start()
            stack.callback(processes[-1].join)
            stack.callback(processes[-1].kill)
        for _ in processes:
            connection = stack.enter_context(server.accept()[0])
            connection.settimeout(60)
            hello = Rank(processes[0], connection).hear()
            assert isinstance(hello, Hello)
            assert hello.token == "secret"
            ranks[hello.rank] = Rank(processes[hello.rank], connection)
        for rank in ranks.values():
            rank.tell(load)
        yield [ranks[number] for number in range(size)]


def start(task_id: str, arrived_at: float = 0.0, **changes: object) -> StartTask:
    return StartTask(
        task_id=task_id,
        attempt=1,
        arrived_at=arrived_at,
        params=params(**{"num_inference_steps": 3} | changes),
    )


def test_a_short_task_passes_a_long_one_at_the_next_step() -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("long", prompt="slow", num_images=100))
        rank.hear(StepDone)
        rank.tell(start("short"))
        events = []
        while not isinstance(event := rank.hear(), TaskDone):
            events.append(event)
        assert event.task_id == "short"
        between = [e for e in events if isinstance(e, StepDone) and e.task_id == "long"]
        assert len(between) <= 2
        rank.hear(StepDone)


def test_tasks_are_done_in_order_and_reported_step_by_step() -> None:
    with group() as [rank]:
        assert isinstance(rank.hear(), GroupReady)
        rank.tell(start("first", num_images=2, seed=5))
        rank.tell(start("second", arrived_at=1000.0, seed=9))
        events = [rank.hear() for _ in range(7 + 6)]
        begun = [e.task_id for e in events if isinstance(e, TaskBegun)]
        assert begun == ["first", "second"]
        steps = [(e.task_id, e.steps_done) for e in events if isinstance(e, StepDone)]
        assert steps == [("first", n) for n in (2, 4, 6)] + [("second", n) for n in (1, 2, 3)]
        images = [(e.task_id, e.image_index) for e in events if isinstance(e, ImageDone)]
        assert images == [("first", 0), ("first", 1), ("second", 0)]
        done = [e for e in events if isinstance(e, TaskDone)]
        assert [e.task_id for e in done] == ["first", "second"]
        assert set(done[0].timings) == {"encode_s", "denoise_s", "decode_s", "save_s"}
        rank.tell(Stop())
        assert rank.wait(30) == 0


def test_a_task_is_saved_and_goes_on_from_there() -> None:
    """Its first image was finished: it is sent again, because the last attempt's is not ours."""
    load = structs.replace(LOAD, checkpoint_s=0.01, max_rows=2)
    with group(load=load) as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("slow", prompt="slow", num_images=2))
        while json.loads((saved := rank.hear(Checkpoint)).data) != [3, 1]:
            pass
    again = structs.replace(start("slow", num_images=2), attempt=2, checkpoint=saved.data)
    with group(load=load) as [rank]:
        rank.hear(GroupReady)
        rank.tell(again)
        events = []
        while not isinstance(event := rank.hear(), TaskDone):
            events.append(event)
        assert [e.steps_done for e in events if isinstance(e, StepDone)] == [5, 6]
        assert [e.image_index for e in events if isinstance(e, ImageDone)] == [0, 1]


def test_tasks_of_one_kind_share_steps_as_far_as_there_are_rows(tmp_path: Path) -> None:
    with group(turns=tmp_path) as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("first", prompt="slow", num_images=4, guidance_scale=0.0))
        rank.hear(StepDone)
        for task in ("a", "b", "c"):
            rank.tell(start(task, prompt=task, arrived_at=1000.0))
        for _ in range(4):
            rank.hear(TaskDone)
    steps = (tmp_path / "0").read_text().splitlines()
    slow, pairs, rest = steps[:3], steps[3:6], steps[6:]
    assert slow == [" + ".join(f"slow {seed} {n}" for seed in (42, 43, 44, 45)) for n in range(3)]
    assert pairs == [f"a 42 {n} + b 42 {n}" for n in range(3)]
    assert rest == [f"c 42 {n}" for n in range(3)]


def test_a_step_says_how_many_rows_it_had_and_how_long_it_took() -> None:
    with group() as [rank]:
        rank.tell(start("task", prompt="slow", num_images=2))
        step = rank.hear(StepDone)
        assert (step.rows, step.steps_done) == (4, 2)
        assert step.step_s > 0.2


def test_of_tasks_that_share_a_step_one_is_named_first() -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("first", prompt="slow", num_images=4, guidance_scale=0.0))
        rank.hear(StepDone)
        for task in ("a", "b"):
            rank.tell(start(task, prompt=task, arrived_at=1000.0))
        steps = [event for _ in range(3) for event in until_done(rank)]
    shared = [(e.steps_done, e.first) for e in steps if e.task_id in ("a", "b")]
    assert sorted(shared) == [(n, first) for n in (1, 2, 3) for first in (False, True)]
    assert all(e.first for e in steps if e.task_id == "first")


def test_a_step_that_needs_no_forward_takes_no_part_in_one(tmp_path: Path) -> None:
    with group(turns=tmp_path) as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("first", prompt="slow", num_images=4, guidance_scale=0.0))
        rank.hear(StepDone)
        more = {"arrived_at": 1000.0, "num_inference_steps": 4}
        for task in ("a", "still"):
            rank.tell(start(task, prompt=task, **more))
        for _ in range(3):
            rank.hear(TaskDone)
    steps = (tmp_path / "0").read_text().splitlines()[3:]
    # It goes on at once, and has less left to do than the other then.
    assert steps == [
        *("a 42 0 + still 42 0", "(still 42 1)", "still 42 2 + a 42 1"),
        *("still 42 3 + a 42 2", "a 42 3"),
    ]


def test_how_many_steps_needed_no_forward_is_said_and_told_apart() -> None:
    with group() as [rank]:
        rank.tell(start("task", prompt="still", num_images=2, num_inference_steps=6))
        events = []
        while not isinstance(event := rank.hear(), TaskDone):
            events.append(event)
    assert event.reused_steps == 4
    steps = [(e.steps_done, e.rows) for e in events if isinstance(e, StepDone)]
    assert steps == [(2, 4), (4, 0), (6, 4), (8, 0), (10, 4), (12, 4)]
    with Image.open(io.BytesIO(next(e for e in events if isinstance(e, ImageDone)).data)) as image:
        assert image.text["reused"] == "2"


def test_of_a_task_that_needs_every_forward_it_is_said_that_it_did() -> None:
    with group() as [rank]:
        rank.tell(start("task"))
        assert rank.hear(TaskDone).reused_steps is None


def test_previews_and_checkpoints_come_of_steps_without_a_forward_too() -> None:
    with group(load=structs.replace(LOAD, checkpoint_s=1e-6)) as [rank]:
        rank.tell(start("task", prompt="still", num_previews=1, num_inference_steps=4))
        shown, saved = [], []
        while not isinstance(event := rank.hear(), TaskDone):
            shown += [event] if isinstance(event, Preview) else []
            saved += [json.loads(event.data)] if isinstance(event, Checkpoint) else []
        assert len(shown) == 1
        assert saved == [[1], [2], [3]]


def until_done(rank: Rank) -> list[StepDone]:
    """Return the steps that are reported before the next task is done."""
    steps = []
    while isinstance(event := rank.hear(StepDone, TaskDone), StepDone):
        steps.append(event)
    return steps


def test_every_rank_says_for_itself_what_it_has_used() -> None:
    with group(2) as ranks:
        usages = [rank.hear(RankUsage) for rank in ranks]
    assert [(usage.rank, usage.peak_memory_bytes) for usage in usages] == [(0, 1000), (1, 1001)]


def test_pictures_of_other_sizes_share_no_step(tmp_path: Path) -> None:
    with group(turns=tmp_path) as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("first", prompt="slow", num_images=2))
        rank.hear(StepDone)
        rank.tell(start("small", prompt="small", arrived_at=1000.0, guidance_scale=0.0))
        rank.tell(start("large", prompt="large", arrived_at=1000.0, width=1024, height=1024))
        for _ in range(3):
            rank.hear(TaskDone)
    steps = (tmp_path / "0").read_text().splitlines()
    assert not any({"small", "large"} <= set(step.split()) for step in steps)


def test_what_fails_a_step_fails_its_own_task_only() -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("first", prompt="slow"))
        rank.hear(TaskBegun)
        for task, prompt in (("bad", "raise"), ("good", "fine")):
            rank.tell(start(task, prompt=prompt, arrived_at=1000.0))
        ends = [rank.hear(TaskDone, TaskFailed) for _ in range(3)]
        assert {e.task_id: type(e) for e in ends} == {
            "first": TaskDone,
            "bad": TaskFailed,
            "good": TaskDone,
        }


def test_what_a_sampler_has_left_in_the_middle_of_a_step_is_not_tried_again(tmp_path: Path) -> None:
    with group(turns=tmp_path) as [rank]:
        rank.tell(start("lost", prompt="lose the way", num_images=2))
        assert isinstance(rank.hear(TaskDone, TaskFailed), TaskFailed)
        rank.tell(start("good", prompt="fine"))
        assert isinstance(rank.hear(TaskDone, TaskFailed), TaskDone)
    lost = [step for step in (tmp_path / "0").read_text().splitlines() if "lose" in step]
    assert lost == ["lose the way 42 0 + lose the way 43 0"]


def test_a_step_that_cannot_be_reused_fails_its_own_task_only() -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("bad", prompt="still, and raise", num_images=2, num_inference_steps=8))
        rank.tell(start("good", prompt="fine", arrived_at=1000.0))
        ends = [rank.hear(TaskDone, TaskFailed) for _ in range(2)]
        assert {end.task_id: type(end) for end in ends} == {"bad": TaskFailed, "good": TaskDone}


def test_where_there_is_no_room_for_two_each_is_run_by_itself(tmp_path: Path) -> None:
    with group(turns=tmp_path) as [rank]:
        rank.tell(start("task", prompt="large", num_images=2))
        assert isinstance(rank.hear(TaskDone, TaskFailed), TaskDone)
    steps = (tmp_path / "0").read_text().splitlines()
    # The first step is taken image by image; after that no two are tried together.
    assert steps == [
        *("large 42 0", "large 43 0"),
        *(f"large {seed} {n}" for seed in (42, 43) for n in (1, 2)),
    ]


def test_prompts_are_encoded_beside_the_steps_of_others() -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("running", num_images=8, num_inference_steps=1000))
        rank.hear(StepDone)
        rank.tell(start("waiting", prompt="long to read", arrived_at=1000.0))
        begun = rank.hear(TaskBegun)
        assert begun.task_id == "waiting"
        # It is read for a second; the other task does not stand still.
        assert [rank.hear(StepDone).task_id for _ in range(100)] == ["running"] * 100


def test_a_prompt_that_cannot_be_encoded_fails_its_task() -> None:
    with group() as [rank]:
        rank.tell(start("bad", prompt="no words"))
        rank.tell(start("good"))
        assert rank.hear(TaskFailed).reason == "ValueError: this prompt cannot be encoded"
        assert rank.hear(TaskDone).task_id == "good"


def test_an_unfinished_picture_is_shown_as_often_as_asked() -> None:
    with group() as [rank]:
        rank.tell(start("task", num_previews=2, num_images=2, width=64, height=64))
        shown = []
        while not isinstance(event := rank.hear(), TaskDone):
            shown += [event] if isinstance(event, Preview) else []
        assert [preview.image_index for preview in shown] == [0, 1, 0, 1]
        with Image.open(io.BytesIO(shown[0].data)) as picture:
            assert picture.size == (16, 16)
            assert picture.getpixel((3, 3)) == (128, 64, 0)


def test_a_checkpoint_that_is_of_no_use_costs_time_only() -> None:
    with group() as [rank]:
        rank.tell(structs.replace(start("task"), checkpoint=b"nonsense"))
        steps = [rank.hear(StepDone).steps_done for _ in range(3)]
        assert steps == [1, 2, 3]
        rank.hear(TaskDone)


def test_a_cancelled_task_takes_no_further_step() -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("unwanted", prompt="slow", num_images=100))
        rank.hear(StepDone)
        rank.tell(start("next"))
        rank.tell(CancelTask(task_id="unwanted", attempt=1))
        rank.tell(CancelTask(task_id="nobody", attempt=1))
        events = []
        while not isinstance(event := rank.hear(), TaskDone):
            events.append(event)
        assert event.task_id == "next"
        late = [e for e in events if e.task_id == "unwanted"]
        # At most the step that was going on, and one that began before the words came.
        assert {type(e) for e in late} <= {StepDone}
        assert len(late) <= 2


def test_a_task_cancelled_before_it_began_is_never_begun() -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("first", prompt="slow"))
        rank.hear(TaskBegun)
        rank.tell(start("unwanted"))
        rank.tell(CancelTask(task_id="unwanted", attempt=1))
        rank.tell(start("last"))
        ended = [rank.hear(TaskDone).task_id for _ in range(2)]
        assert ended == ["first", "last"]


def test_a_task_that_fails_leaves_the_group_up() -> None:
    with group() as [rank]:
        rank.tell(start("bad", prompt="raise"))
        rank.tell(start("good"))
        failed = rank.hear(TaskFailed)
        assert failed.task_id == "bad"
        assert failed.reason == "ValueError: this prompt cannot be painted"
        assert rank.hear(TaskDone).task_id == "good"


def test_what_fails_is_in_the_log_with_its_task() -> None:
    with group() as [rank]:
        rank.tell(start("bad", prompt="raise"))
        line = rank.hear(LogLine)
        while line.level < 40:
            line = rank.hear(LogLine)
        assert line.task_id == "bad"
        assert "ValueError" in line.text


def test_a_load_that_fails_is_reported_in_one_line() -> None:
    with group(load=msgspec.structs.replace(LOAD, model_path="broken")) as [rank]:
        assert rank.hear() == LoadFailed(reason="RuntimeError: out of memory")


def test_a_picture_that_cannot_be_made_into_a_file_fails_its_task() -> None:
    with group() as [rank]:
        rank.tell(start("bad", prompt="no file", num_images=2))
        rank.tell(start("good", arrived_at=1000.0))
        assert rank.hear(TaskFailed, TaskDone).task_id == "bad"
        assert rank.hear(TaskFailed, TaskDone) == TaskDone(task_id="good", attempt=1, timings=ANY)


def test_a_broken_device_ends_the_rank_and_fails_no_task() -> None:
    with group() as [rank]:
        rank.tell(start("unlucky", prompt="break the device"))
        rank.hear(TaskBegun)
        assert rank.wait(30) != 0
        with pytest.raises(AssertionError, match="the rank has gone"):
            rank.hear(TaskFailed)


def test_a_device_that_breaks_beside_the_loop_ends_the_rank_too() -> None:
    with group() as [rank]:
        rank.tell(start("unlucky", prompt="break in the end"))
        rank.hear(StepDone)
        assert rank.wait(30) != 0
        with pytest.raises(AssertionError, match="the rank has gone"):
            rank.hear(TaskFailed)


def test_a_task_that_kills_its_rank_has_been_named_before() -> None:
    with group() as [rank]:
        rank.tell(start("killer", prompt="die"))
        assert rank.hear(TaskBegun).task_id == "killer"
        assert rank.wait(30) == 9


@pytest.mark.parametrize("end", ["close", "stop"])
def test_a_rank_leaves_in_the_middle_of_a_load(end: str) -> None:
    with group(load=msgspec.structs.replace(LOAD, model_path="endless")) as [rank]:
        rank.hear(LogLine)
        if end == "close":
            rank.socket.close()
        else:
            rank.tell(Stop())
        assert (rank.wait(10) == 0) == (end == "stop")


@pytest.mark.parametrize("prompt", ["slow", None], ids=["at work", "idle"])
def test_a_rank_leaves_when_its_supervisor_goes(prompt: str | None) -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        if prompt:
            rank.tell(start("endless", prompt=prompt, num_images=100))
            rank.hear(StepDone)
        rank.socket.close()
        assert rank.wait(10) != 0


def test_two_ranks_take_the_same_turns_and_leave_together(tmp_path: Path) -> None:
    with group(2, turns=tmp_path) as ranks:
        ranks[0].hear(GroupReady)
        for task in ("a", "b"):
            for rank in ranks:
                rank.tell(start(task, prompt=task, num_images=2))
        ranks[0].hear(TaskDone)
        ranks[0].hear(TaskDone)
        for rank in ranks:
            rank.tell(Stop())
        assert [rank.wait(30) for rank in ranks] == [0, 0]
    first, second = ((tmp_path / str(rank)).read_text() for rank in range(2))
    assert first == second
    assert first.splitlines() == [
        f"{task} 42 {n} + {task} 43 {n}" for task in "ab" for n in range(3)
    ]


def test_a_rank_of_another_opinion_does_what_rank_0_says(tmp_path: Path) -> None:
    """It would be missing in a forward, or alone in one."""
    with group(2, turns=tmp_path) as ranks:
        ranks[0].hear(GroupReady)
        for rank in ranks:
            rank.tell(start("task", prompt="still on 0", num_inference_steps=6))
            rank.tell(start("other", prompt="still on 1", num_inference_steps=6))
        assert ranks[0].hear(TaskDone).reused_steps == 2
        assert ranks[0].hear(TaskDone).reused_steps == 0
        for rank in ranks:
            rank.tell(Stop())
        assert [rank.wait(30) for rank in ranks] == [0, 0]
    first, second = ((tmp_path / str(rank)).read_text() for rank in range(2))
    assert first == second
    assert "(still on 0 42 1)" in first
    assert "(still on 1" not in first


def test_a_rank_that_cannot_encode_its_part_ends_the_group(tmp_path: Path) -> None:
    """The others wait for it in a collective, and would for half an hour."""
    with group(2) as ranks:
        ranks[0].hear(GroupReady)
        ranks[0].tell(start("task", prompt="no words on 1"))
        assert ranks[1].wait(30) == 1


def test_a_task_cancelled_while_it_is_read_takes_no_step() -> None:
    with group() as [rank]:
        rank.hear(GroupReady)
        rank.tell(start("unwanted", prompt="long to read"))
        rank.hear(TaskBegun)
        rank.tell(CancelTask(task_id="unwanted", attempt=1))
        rank.tell(start("next"))
        events = []
        while not isinstance(event := rank.hear(), TaskDone):
            events.append(event)
        assert event.task_id == "next"
        assert not any(isinstance(e, StepDone) and e.task_id == "unwanted" for e in events)


def test_what_a_model_can_is_found_out_when_it_is_first_loaded() -> None:
    with group(load=structs.replace(LOAD, profile=None)) as [rank]:
        profile = rank.hear(GroupReady).profile
        assert set(profile.step_s) == {64, 256}
        assert all({1, 2} <= set(seconds) <= {1, 2, 4, 8} for seconds in profile.step_s.values())
        assert profile.preview_map == [[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]


def test_two_ranks_find_it_out_together() -> None:
    with group(2, load=structs.replace(LOAD, profile=None)) as ranks:
        assert set(ranks[0].hear(GroupReady).profile.step_s) == {64, 256}
        ranks[0].tell(start("task"))
        ranks[0].hear(TaskDone)
