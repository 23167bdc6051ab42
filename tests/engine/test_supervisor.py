"""The supervisor against ranks that misbehave: nothing is lost, nothing waits for ever."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from hidream_server.engine.health import EngineState
from hidream_server.engine.layout_ladder import LayoutLadder
from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.engine.supervisor import Deadlines, Supervisor
from hidream_server.engine.worker_group import WorkerGroup
from hidream_server.errors import ResultsUnavailableError, StoreUnavailableError
from hidream_server.ipc.messages import (
    CancelTask,
    Checkpoint,
    Command,
    GroupReady,
    Hello,
    ImageDone,
    LoadFailed,
    Preview,
    Profile,
    RankUsage,
    StartTask,
    StepDone,
    TaskBegun,
    TaskDone,
    TaskFailed,
)
from hidream_server.layouts.layout import Layout
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.folder import Folder
from hidream_server.store.pictures import checkpoint_key, preview_key
from hidream_server.store.results import in_folder
from hidream_server.store.statements import Claim
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.engine.fake_ranks import (
    LOAD,
    FakeLauncher,
    FakeRank,
    Script,
    cannot_start,
    frame,
    well_behaved,
)
from tests.support import Clock, new_database, new_outlook, new_queue, params, submit

#: A task that was cancelled while it was queued.
STRANGER = "3f0d6a1e-9c1b-4e57-8a44-0b6f6d2f9c11"
DEADLINES = Deadlines(load_s=30, step_s=30, drain_s=30)


class Stage:
    """A supervisor on a real store, with fake ranks."""

    def __init__(
        self,
        folder: Path,
        launcher: FakeLauncher,
        deadlines: Deadlines,
        rungs: Sequence[Layout],
        max_running: int,
    ) -> None:
        self.folder = folder
        self.launcher = launcher
        #: The clock of the ladder's cool-down.
        self.cooling = Clock()
        #: Of each group that was started.
        self.layouts: list[str] = []
        self.outlook = new_outlook()
        store = TaskStore(new_database(folder / "tasks.db"))
        self.queue = new_queue(store, self.outlook)
        patient = PatientQueue(self.queue, "stage")
        self.results = in_folder(folder)
        #: Of each layout, what its groups found out.
        self.learned: dict[str, Profile] = {}
        self.supervisor = Supervisor(
            patient,
            RunningTasks(patient, Leavings(self.results), self.outlook),
            self.new_group,
            LayoutLadder(rungs, tries=2, cool_down_s=100, clock=self.cooling),
            deadlines,
            learn=lambda layout, profile: self.learned.update({str(layout): profile}),
            max_running=max_running,
        )

    def new_group(self, layout: Layout) -> WorkerGroup:
        self.layouts.append(str(layout))
        return WorkerGroup(self.launcher, 1, {}, LOAD)

    def submit(self, **changes: object) -> str:
        return submit(self.queue, [params(**changes)])[0].id

    def task(self, task_id: str) -> Task:
        task = self.queue.get(task_id)
        assert task is not None
        return task

    async def until(self, task_id: str, *states: TaskState) -> Task:
        while (task := self.task(task_id)).state not in states:
            await asyncio.sleep(0.005)
        return task


Scenario = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    """Run a scenario beside a supervisor, then stop it and see it end."""
    monkeypatch.setattr("hidream_server.engine.supervisor._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("hidream_server.engine.worker_group._STOP_GRACE_S", 0.2)

    def play(
        scenario: Scenario,
        launcher: FakeLauncher,
        deadlines: Deadlines = DEADLINES,
        rungs: Sequence[Layout] = (Layout(),),
        max_running: int = 1,
    ) -> Stage:
        async def main() -> Stage:
            stage = Stage(tmp_path, launcher, deadlines, rungs, max_running)
            running = asyncio.create_task(stage.supervisor.run())
            async with asyncio.timeout(20):
                await scenario(stage)
                stage.supervisor.stop()
                await running
            return stage

        return uvloop.run(main())

    return play


def test_a_task_is_completed_with_its_pictures(play: Callable[..., Stage]) -> None:
    async def scenario(stage: Stage) -> None:
        task_id = stage.submit(num_images=2)
        task = await stage.until(task_id, TaskState.COMPLETED)
        assert [stage.results.pictures.get(name) for name in task.pictures] == [
            b"picture 0",
            b"picture 1",
        ]
        assert task.attempt == 1
        assert task.timings == {"denoise_s": 1.0}

    play(scenario, FakeLauncher())


def test_tasks_are_taken_while_the_model_loads(play: Callable[..., Stage]) -> None:
    loaded = asyncio.Event()

    async def slow_load(rank: FakeRank) -> None:
        await rank.hear()
        await loaded.wait()
        await rank.say(GroupReady(load_s=9, memory_bytes=9000))
        await well_behaved(rank)

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        assert not stage.supervisor.health.now.ready
        loaded.set()
        await stage.until(task_id, TaskState.COMPLETED)
        assert stage.supervisor.health.now.ready
        assert stage.supervisor.health.now.memory_bytes == 9000

    play(scenario, FakeLauncher(slow_load))


async def dies_in_task(rank: FakeRank) -> None:
    await rank.hear()
    await rank.say(GroupReady(load_s=1, memory_bytes=0))
    start = await rank.hear()
    assert isinstance(start, StartTask)
    await rank.do(start, steps=2)


def test_a_task_whose_group_dies_is_completed_by_the_next_one(play: Callable[..., Stage]) -> None:
    async def scenario(stage: Stage) -> None:
        first, second = stage.submit(), stage.submit()
        task = await stage.until(first, TaskState.COMPLETED)
        assert (task.attempt, task.crashes) == (2, 1)
        task = await stage.until(second, TaskState.COMPLETED)
        assert (task.attempt, task.crashes) == (1, 0)

    stage = play(scenario, FakeLauncher(dies_in_task, well_behaved))
    assert stage.launcher.starts == 2


def test_a_task_that_always_kills_its_group_is_failed_and_its_neighbour_completed(
    play: Callable[..., Stage],
) -> None:
    async def scenario(stage: Stage) -> None:
        poison, neighbour = stage.submit(), stage.submit()
        task = await stage.until(poison, TaskState.FAILED)
        assert "3 times" in task.error
        await stage.until(neighbour, TaskState.COMPLETED)

    play(scenario, FakeLauncher(dies_in_task, dies_in_task, dies_in_task, well_behaved))


async def wedged(rank: FakeRank) -> None:
    """Do a step of the first task, and then nothing more."""
    await rank.hear()
    await rank.say(GroupReady(load_s=1, memory_bytes=0))
    start = await rank.hear()
    assert isinstance(start, StartTask)
    await rank.do(start, steps=1)
    await asyncio.Event().wait()


def test_a_wedged_group_is_found_by_the_step_deadline(play: Callable[..., Stage]) -> None:
    async def scenario(stage: Stage) -> None:
        task = await stage.until(stage.submit(), TaskState.COMPLETED)
        assert task.crashes == 1

    stage = play(
        scenario, FakeLauncher(wedged, well_behaved), Deadlines(load_s=30, step_s=0.2, drain_s=30)
    )
    assert stage.launcher.kills >= 1


def test_a_supervisor_that_cannot_end_a_wedged_group_is_stuck(play: Callable[..., Stage]) -> None:
    released = asyncio.Event()

    class Stubborn(FakeLauncher):
        async def kill(self) -> None:
            await released.wait()
            await super().kill()

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        await stage.until(task_id, TaskState.PROCESSING)
        assert not stage.supervisor.stuck
        while not stage.supervisor.stuck:
            await asyncio.sleep(0.005)
        released.set()
        await stage.until(task_id, TaskState.COMPLETED)
        assert not stage.supervisor.stuck

    play(scenario, Stubborn(wedged, well_behaved), Deadlines(load_s=30, step_s=0.2, drain_s=30))


def test_what_a_wedged_group_says_of_its_memory_is_no_sign_of_life(
    play: Callable[..., Stage],
) -> None:
    async def wedged(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        start = await rank.hear()
        assert isinstance(start, StartTask)
        await rank.do(start, steps=1)
        while True:
            await rank.say(RankUsage(rank=0, peak_memory_bytes=1, prompts=0, prompts_cached=0))
            await asyncio.sleep(0.02)

    async def scenario(stage: Stage) -> None:
        task = await stage.until(stage.submit(), TaskState.COMPLETED)
        assert task.crashes == 1

    play(scenario, FakeLauncher(wedged, well_behaved), Deadlines(load_s=30, step_s=0.2, drain_s=30))


def test_a_group_that_never_loads_is_replaced(play: Callable[..., Stage]) -> None:
    async def deaf(rank: FakeRank) -> None:
        await asyncio.Event().wait()

    async def scenario(stage: Stage) -> None:
        await stage.until(stage.submit(), TaskState.COMPLETED)

    play(scenario, FakeLauncher(deaf, well_behaved), Deadlines(load_s=0.2, step_s=30, drain_s=30))


def test_a_model_that_cannot_be_loaded_leaves_the_service_degraded_with_the_reason(
    play: Callable[..., Stage],
) -> None:
    async def broken(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(LoadFailed(reason="OutOfMemoryError: no room"))
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        while stage.supervisor.health.now.state is not EngineState.DEGRADED:
            await asyncio.sleep(0.005)
        assert "no room" in stage.supervisor.health.now.reason
        task = await stage.until(task_id, TaskState.COMPLETED)
        assert task.crashes == 0
        assert stage.supervisor.health.now.state is EngineState.HEALTHY

    play(scenario, FakeLauncher(broken, well_behaved))


def test_a_group_that_cannot_be_started_is_tried_again(play: Callable[..., Stage]) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.until(stage.submit(), TaskState.COMPLETED)

    assert play(scenario, FakeLauncher(cannot_start, well_behaved)).launcher.starts == 2


def test_a_task_that_fails_alone_leaves_the_group_up(play: Callable[..., Stage]) -> None:
    async def one_bad(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        bad = await rank.hear()
        assert isinstance(bad, StartTask)
        await rank.say(TaskFailed(task_id=bad.task_id, attempt=bad.attempt, reason="too odd"))
        await well_behaved(rank)

    async def scenario(stage: Stage) -> None:
        bad, good = stage.submit(), stage.submit()
        assert (await stage.until(bad, TaskState.FAILED)).error == "too odd"
        await stage.until(good, TaskState.COMPLETED)

    assert play(scenario, FakeLauncher(one_bad)).launcher.starts == 1


def test_events_of_another_attempt_change_nothing(play: Callable[..., Stage]) -> None:
    async def confused(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        start = await rank.hear()
        assert isinstance(start, StartTask)
        await rank.say(TaskDone(task_id=start.task_id, attempt=99, timings={}))
        await rank.say(TaskFailed(task_id="nobody's", attempt=1, reason="not ours"))
        await rank.say(StepDone(task_id=start.task_id, attempt=0, steps_done=3))
        await rank.do(start)
        await well_behaved(rank)

    async def scenario(stage: Stage) -> None:
        task = await stage.until(stage.submit(), TaskState.COMPLETED, TaskState.FAILED)
        assert task.state is TaskState.COMPLETED
        assert len(task.pictures) == 1

    play(scenario, FakeLauncher(confused))


def test_a_picture_that_cannot_be_written_fails_its_task_and_the_service_goes_on(
    play: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def put(_: Folder, name: str, data: bytes) -> None:
        written.append(name)
        if len(written) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "put", put)

    async def scenario(stage: Stage) -> None:
        first, second = stage.submit(), stage.submit()
        assert "No space left" in (await stage.until(first, TaskState.FAILED)).error
        await stage.until(second, TaskState.COMPLETED)

    play(scenario, FakeLauncher())


class Away:
    """Lets pictures go to a store that is away until it is told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries, self.is_away = 0, True
        really_put = Folder.put

        def put(folder: Folder, name: str, data: bytes) -> None:
            if self.is_away and name.endswith(".png"):
                self.tries += 1
                raise ResultsUnavailableError
            really_put(folder, name, data)

        monkeypatch.setattr(Folder, "put", put)
        for pause in ("_FIRST_PAUSE_S", "_LAST_PAUSE_S"):
            monkeypatch.setattr(f"hidream_server.engine.leavings.{pause}", 0.02)

    async def tried(self, times: int) -> None:
        while self.tries < times:
            await asyncio.sleep(0.005)


def dying(away: Away) -> Script:
    """Return a rank that does one task, and ends while its picture waits."""

    async def dies(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=0, memory_bytes=0))
        start = await rank.hear()
        assert isinstance(start, StartTask)
        await rank.do(start)
        await away.tried(1)

    return dies


def test_a_group_that_waits_for_a_pictures_store_is_not_taken_for_wedged(
    play: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(monkeypatch)

    async def scenario(stage: Stage) -> None:
        first, second = stage.submit(), stage.submit()
        # Ten pauses are longer than the step deadline, and nothing else happens meanwhile.
        await away.tried(20)
        assert stage.task(second).state is TaskState.QUEUED
        away.is_away = False
        for task_id in (first, second):
            task = await stage.until(task_id, TaskState.COMPLETED, TaskState.FAILED)
            assert (task.state, task.attempt) == (TaskState.COMPLETED, 1)
        assert stage.layouts == ["tp1"]

    play(scenario, FakeLauncher(), replace(DEADLINES, step_s=0.2))


def test_a_group_that_dies_while_a_picture_waits_costs_its_task_no_crash(
    play: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(monkeypatch)
    monkeypatch.setattr("hidream_server.engine.roster._SETTLE_S", 0.05)

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        while len(stage.layouts) < 2:
            await asyncio.sleep(0.005)
        away.is_away = False
        task = await stage.until(task_id, TaskState.COMPLETED, TaskState.FAILED)
        assert (task.state, task.attempt, task.crashes) == (TaskState.COMPLETED, 2, 0)

    play(scenario, FakeLauncher(dying(away), well_behaved))


def test_what_a_group_had_finished_when_it_died_is_published(
    play: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(monkeypatch)

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        await away.tried(3)
        away.is_away = False
        task = await stage.until(task_id, TaskState.COMPLETED, TaskState.FAILED)
        assert (task.state, task.attempt, task.crashes) == (TaskState.COMPLETED, 1, 0)

    play(scenario, FakeLauncher(dying(away), well_behaved))


#: What is said on the control socket by who is not awaited there; TOKEN is the group's own.
TOKEN = "t" * 32
NOT_AWAITED = {
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "nothing": b"",
    "garbage": b"\x00\x00\x00\x01\xc1",
    "guess": frame(Hello(token="guessed", rank=0)),
    "not ASCII": frame(Hello(token="gue\u00dfed", rank=0)),
    "another event": frame(TaskFailed(task_id="any", attempt=1, reason="none of yours")),
    "too long": frame(Hello(token="x" * 5000, rank=0)),
    "here already": frame(Hello(token=TOKEN, rank=0)),
    "too many": frame(Hello(token=TOKEN, rank=1)),
    "no rank": frame(Hello(token=TOKEN, rank=-1)),
}


@pytest.mark.parametrize("said", NOT_AWAITED.values(), ids=NOT_AWAITED)
def test_who_is_not_awaited_on_the_control_socket_is_turned_away_and_does_no_harm(
    play: Callable[..., Stage], said: bytes
) -> None:
    came, went = asyncio.Event(), asyncio.Event()

    async def visited(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        start = await rank.hear()
        assert isinstance(start, StartTask)
        came.set()
        await went.wait()
        await rank.do(start)
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        await came.wait()
        control = stage.launcher.order.control
        assert len(control.token) == len(TOKEN)
        reader, writer = await asyncio.open_connection(control.host, control.port)
        writer.write(said.replace(TOKEN.encode(), control.token.encode()))
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        went.set()
        task = await stage.until(task_id, TaskState.COMPLETED)
        assert (task.attempt, task.crashes) == (1, 0)

    play(scenario, FakeLauncher(visited))


def test_a_task_whose_picture_never_came_is_not_completed(play: Callable[..., Stage]) -> None:
    async def forgetful(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        start = await rank.hear()
        assert isinstance(start, StartTask)
        who = {"task_id": start.task_id, "attempt": start.attempt}
        await rank.say(ImageDone(**who, image_index=0, data=b"first"))
        await rank.say(TaskDone(**who, timings={}))
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        task = await stage.until(stage.submit(num_images=2), TaskState.FAILED)
        assert task.error == "Image 1 never came."

    play(scenario, FakeLauncher(forgetful))


def test_a_task_that_the_group_never_began_is_not_charged_with_its_end(
    play: Callable[..., Stage],
) -> None:
    async def dies_warm(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        task = await stage.until(stage.submit(), TaskState.COMPLETED)
        assert (task.attempt, task.crashes) == (5, 0)

    play(scenario, FakeLauncher(*[dies_warm] * 4, well_behaved))


def test_a_database_that_does_not_answer_costs_no_task(
    play: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    really_complete, failures = TaskQueue.complete, []

    def complete(queue: TaskQueue, *arguments: object) -> bool:
        if not failures:
            failures.append(arguments)
            raise StoreUnavailableError("disk I/O error")
        return really_complete(queue, *arguments)

    monkeypatch.setattr(TaskQueue, "complete", complete)

    async def scenario(stage: Stage) -> None:
        task = await stage.until(stage.submit(), TaskState.COMPLETED)
        assert (task.attempt, task.crashes) == (1, 0)

    play(scenario, FakeLauncher())


def test_a_stop_lets_the_running_task_finish_and_claims_no_other(
    play: Callable[..., Stage],
) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def slow(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        start = await rank.hear()
        assert isinstance(start, StartTask)
        at_work.set()
        await go_on.wait()
        await rank.do(start)
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        first, second = stage.submit(), stage.submit()
        await at_work.wait()
        stage.supervisor.stop()
        assert stage.supervisor.health.now.state is EngineState.STOPPING
        go_on.set()
        await stage.until(first, TaskState.COMPLETED)
        assert stage.task(second).state is TaskState.QUEUED

    play(scenario, FakeLauncher(slow))


def test_a_group_has_several_tasks_on_hand_and_no_more_than_it_may(
    play: Callable[..., Stage],
) -> None:
    on_hand: list[StartTask] = []

    async def patient(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        for _ in range(3):
            on_hand.append(await rank.hear())
        await rank.do(on_hand[1])
        on_hand.append(await rank.hear())
        for start in (on_hand[0], *on_hand[2:]):
            await rank.do(start)
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        tasks = [stage.submit() for _ in range(4)]
        for task_id in tasks:
            await stage.until(task_id, TaskState.COMPLETED)
        assert [start.task_id for start in on_hand] == tasks

    play(scenario, FakeLauncher(patient), max_running=3)


def test_tasks_that_were_there_when_a_group_went_down_run_alone(
    play: Callable[..., Stage],
) -> None:
    """One of three kills its group; the others lose a group once, and no picture."""
    together: list[set[str]] = []

    async def poisoned(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        together.append(set())
        while isinstance(start := await rank.hear(), StartTask):
            together[-1].add(start.task_id)
            await rank.do(start, steps=1)
            if len(together) == 1 and len(together[0]) < 3:
                continue
            if start.task_id == poison[0] or len(together) == 1:
                return
            await rank.do(start)

    poison: list[str] = []

    async def scenario(stage: Stage) -> None:
        good, bad, also_good = (stage.submit() for _ in range(3))
        poison.append(bad)
        assert (await stage.until(bad, TaskState.FAILED)).crashes == 2
        for task_id in (good, also_good):
            task = await stage.until(task_id, TaskState.COMPLETED)
            assert (task.crashes, task.attempt) == (1, 2)
        assert together[0] == {good, bad, also_good}

    play(scenario, FakeLauncher(poisoned), max_running=3)


def test_a_task_goes_on_from_its_checkpoint_until_that_may_be_what_is_wrong(
    play: Callable[..., Stage],
) -> None:
    given: list[bytes | None] = []

    async def saves(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        start = await rank.hear()
        given.append(start.checkpoint)
        await rank.do(start, steps=1)
        data = b"step %d" % len(given)
        await rank.say(Checkpoint(task_id=start.task_id, attempt=start.attempt, data=data))

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        await stage.until(task_id, TaskState.FAILED)
        assert given == [None, b"step 1", None]

    play(scenario, FakeLauncher(saves))


def test_leases_are_renewed_while_a_checkpoint_is_read(
    play: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    for period in ("running_tasks._RENEWAL_S", "supervisor._POLL_S"):
        monkeypatch.setattr(f"hidream_server.engine.{period}", 0.01)
    renewed, waited = threading.Event(), []
    really_beat = TaskQueue.beat

    def slow(*_: object) -> list[str]:
        renewed.clear()
        waited.append(renewed.wait(5))
        return []

    def beat(*arguments: object) -> set[Claim]:
        renewed.set()
        return really_beat(*arguments)

    monkeypatch.setattr(TaskQueue, "beat", beat)

    async def scenario(stage: Stage) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Folder, "names", slow)
            task_id = stage.submit()
            while not waited:
                await asyncio.sleep(0.005)
        await stage.until(task_id, TaskState.COMPLETED)

    play(scenario, FakeLauncher(dies_in_task, well_behaved))
    assert waited == [True]


def test_a_mistake_in_the_last_writes_is_not_passed_over(
    play: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_fail = threading.Event(), threading.Event()

    def mistaken(*_: object) -> None:
        began.set()
        assert may_fail.wait(10)
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Folder, "put", mistaken)

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        assert await asyncio.to_thread(began.wait, 10)
        stage.supervisor.stop(0)
        await stage.until(task_id, TaskState.QUEUED)
        may_fail.set()

    with pytest.raises(RuntimeError, match="a mistake"):
        play(scenario, FakeLauncher())


def test_what_has_ended_has_no_checkpoint(play: Callable[..., Stage]) -> None:
    async def saves(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        while isinstance(start := await rank.hear(), StartTask):
            await rank.say(Checkpoint(task_id=start.task_id, attempt=start.attempt, data=b"x"))
            await rank.do(start)

    async def scenario(stage: Stage) -> None:
        await stage.until(stage.submit(), TaskState.COMPLETED)
        for attempt in (1, 2):
            stage.results.checkpoints.put(checkpoint_key(STRANGER, attempt), b"x")
        stage.supervisor._running.cancelled(STRANGER)
        while stage.results.checkpoints.names():
            await asyncio.sleep(0.005)

    play(scenario, FakeLauncher(saves))


def test_a_cancelled_task_gives_its_place_to_the_next(play: Callable[..., Stage]) -> None:
    at_work = asyncio.Event()
    heard: list[Command] = []

    async def interrupted(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        unwanted = await rank.hear()
        assert isinstance(unwanted, StartTask)
        await rank.do(unwanted, steps=1)
        at_work.set()
        while isinstance(command := await rank.hear(), StartTask | CancelTask):
            heard.append(command)
            if isinstance(command, StartTask):
                # What a rank says too late of a task that it was to leave changes nothing.
                await rank.do(unwanted)
                await rank.do(command)

    async def scenario(stage: Stage) -> None:
        first, second = stage.submit(), stage.submit()
        await at_work.wait()
        assert stage.queue.cancel(first)
        await stage.until(second, TaskState.COMPLETED)
        assert stage.task(first).state is TaskState.CANCELLED
        assert stage.task(first).pictures == ()
        assert heard == [
            CancelTask(task_id=first, attempt=1),
            StartTask(
                task_id=second,
                attempt=1,
                arrived_at=stage.task(second).created_at,
                params=params(),
            ),
        ]

    play(scenario, FakeLauncher(interrupted))


def test_a_task_that_was_taken_away_is_left_by_the_ranks(play: Callable[..., Stage]) -> None:
    """Another server on the same table cancelled it; the next beat shows it."""
    at_work, gone = asyncio.Event(), asyncio.Event()

    async def surprised(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        start = await rank.hear()
        at_work.set()
        await gone.wait()
        await rank.do(start, steps=1)
        assert await rank.hear() == CancelTask(task_id=start.task_id, attempt=1)
        left.set()
        await rank.hear()

    left = asyncio.Event()

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        await at_work.wait()
        assert TaskStore(new_database(stage.folder / "tasks.db")).cancel(task_id, 1.0)
        gone.set()
        await left.wait()

    play(scenario, FakeLauncher(surprised))


def test_a_stop_hands_back_at_once_what_no_step_was_spent_on(play: Callable[..., Stage]) -> None:
    at_work = asyncio.Event()
    left: list[Command] = []

    async def halfway(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        first, second = await rank.hear(), await rank.hear()
        await rank.say(TaskBegun(task_id=second.task_id, attempt=1))
        await rank.do(first, steps=1)
        at_work.set()
        left.append(await rank.hear())
        await rank.do(first)
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        first, second = stage.submit(), stage.submit()
        await at_work.wait()
        while stage.task(first).steps_done == 0:
            await asyncio.sleep(0.005)
        stage.supervisor.stop()
        await stage.until(first, TaskState.COMPLETED)
        task = stage.task(second)
        assert (task.state, task.crashes) == (TaskState.QUEUED, 0)
        assert left == [CancelTask(task_id=second, attempt=1)]

    play(scenario, FakeLauncher(halfway), max_running=2)


def test_a_stop_hands_back_what_does_not_finish_in_time(play: Callable[..., Stage]) -> None:
    at_work = asyncio.Event()

    async def endless(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=0))
        await rank.hear()
        at_work.set()
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        await at_work.wait()
        stage.supervisor.stop(drain_s=0.05)
        task = await stage.until(task_id, TaskState.QUEUED)
        assert task.crashes == 0

    play(scenario, FakeLauncher(endless))


def test_a_stop_ends_a_load_at_once(play: Callable[..., Stage]) -> None:
    async def deaf(rank: FakeRank) -> None:
        await rank.hear()
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        while stage.launcher.starts == 0:
            await asyncio.sleep(0.005)

    play(scenario, FakeLauncher(deaf))


# Layouts

RUNGS = (Layout(tp=4), Layout(tp=2), Layout())


def test_a_layout_that_cannot_start_gives_way_to_smaller_ones_and_tasks_wait_it_out(
    play: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(stage: Stage) -> None:
        task_id = stage.submit()
        task = await stage.until(task_id, TaskState.COMPLETED)
        assert task.attempt == 1
        assert stage.layouts == ["tp4", "tp4", "tp2", "tp2", "tp1"]
        health = stage.supervisor.health.now
        assert (health.state, health.ready) == (EngineState.DEGRADED, True)
        assert (health.layout, health.wanted_layout) == ("tp1", "tp4")
        assert health.reason == "No devices left."

    scripts = [cannot_start] * 4 + [well_behaved]
    play(scenario, FakeLauncher(*scripts), rungs=RUNGS)
    messages = [message for message in caplog.messages if "Distributed" in message]
    assert messages == [
        "Distributed inference failed, trying layout tp2…",
        "Distributed inference failed, trying single device…",
    ]


def test_an_idle_group_climbs_back_without_losing_a_task(play: Callable[..., Stage]) -> None:
    async def scenario(stage: Stage) -> None:
        first = stage.submit()
        await stage.until(first, TaskState.COMPLETED)
        assert stage.layouts == ["tp4", "tp4", "tp2"]
        stage.cooling.now = 100
        while stage.supervisor.health.now.state is not EngineState.HEALTHY:
            await asyncio.sleep(0.005)
        assert stage.layouts == ["tp4", "tp4", "tp2", "tp4"]
        second = stage.submit()
        task = await stage.until(second, TaskState.COMPLETED)
        assert task.attempt == 1

    scripts = [cannot_start] * 2 + [well_behaved]
    play(scenario, FakeLauncher(*scripts), rungs=RUNGS)


def test_a_busy_group_climbs_between_tasks_when_it_has_waited_long(
    play: Callable[..., Stage],
) -> None:
    async def scenario(stage: Stage) -> None:
        tasks = [stage.submit() for _ in range(3)]
        await stage.until(tasks[0], TaskState.PROCESSING)
        stage.cooling.now = 200
        go_on.set()
        for task_id in tasks:
            assert (await stage.until(task_id, TaskState.COMPLETED)).attempt == 1
        assert done_by_the_smaller == tasks[:1]
        assert stage.layouts == ["tp4", "tp4", "tp2", "tp4"]

    go_on = asyncio.Event()
    done_by_the_smaller: list[str] = []

    async def slow(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=1))
        while isinstance(command := await rank.hear(), StartTask):
            await go_on.wait()
            done_by_the_smaller.append(command.task_id)
            await rank.do(command)

    play(scenario, FakeLauncher(cannot_start, cannot_start, slow, well_behaved), rungs=RUNGS)


def test_when_a_task_is_found_to_be_at_fault_the_layouts_are_not(
    play: Callable[..., Stage],
) -> None:
    async def poisoned(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=1))
        start = await rank.hear()
        await rank.do(start, steps=1)
        if start.task_id == poison[0]:
            return
        await rank.do(start)
        await rank.hear()

    poison: list[str] = []

    async def scenario(stage: Stage) -> None:
        poison.append(stage.submit())
        assert (await stage.until(poison[0], TaskState.FAILED)).attempt == 3
        good = stage.submit()
        await stage.until(good, TaskState.COMPLETED)
        assert stage.layouts == ["tp4", "tp4", "tp1", "tp4"]

    play(scenario, FakeLauncher(poisoned), rungs=RUNGS)


def test_a_group_that_has_work_does_not_climb(play: Callable[..., Stage]) -> None:
    async def scenario(stage: Stage) -> None:
        tasks = [stage.submit() for _ in range(3)]
        await stage.until(tasks[0], TaskState.PROCESSING)
        stage.cooling.now = 100
        go_on.set()
        for task_id in tasks:
            task = await stage.until(task_id, TaskState.COMPLETED)
            assert task.attempt == 1
        assert done_by_the_smaller == tasks

    go_on = asyncio.Event()
    done_by_the_smaller: list[str] = []

    async def slow(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=1))
        while isinstance(command := await rank.hear(), StartTask):
            await go_on.wait()
            done_by_the_smaller.append(command.task_id)
            await rank.do(command)

    play(scenario, FakeLauncher(cannot_start, cannot_start, slow, well_behaved), rungs=RUNGS)


# Order, shares, and what is learned


def test_a_place_is_kept_for_what_passes_everything_on_hand(play: Callable[..., Stage]) -> None:
    given: list[str] = []
    full, release = asyncio.Event(), asyncio.Event()

    async def patient(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=1))
        starts = [await rank.hear() for _ in range(3)]
        full.set()
        starts.append(await rank.hear())
        given.extend(start.task_id for start in starts)
        await release.wait()
        for start in starts:
            await rank.do(start)
        await well_behaved(rank)

    async def scenario(stage: Stage) -> None:
        long = [stage.submit(num_inference_steps=100) for _ in range(5)]
        await full.wait()
        short = stage.submit(num_inference_steps=1)
        while not given:
            await asyncio.sleep(0.005)
        assert given == [*long[:3], short]
        release.set()
        for task_id in (*long, short):
            await stage.until(task_id, TaskState.COMPLETED)

    play(scenario, FakeLauncher(patient), max_running=4)


def test_the_ranks_are_told_whose_a_task_is_and_when_it_is_wanted(
    play: Callable[..., Stage],
) -> None:
    given: list[StartTask] = []

    async def curious(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=1))
        given.append(await rank.hear())
        await rank.do(given[0])
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        [task] = submit(stage.queue, [params(deadline_s=60.0)], client="somebody")
        await stage.until(task.id, TaskState.COMPLETED)
        assert (given[0].client, given[0].steps_by) == ("somebody", task.created_at + 60.0)

    play(scenario, FakeLauncher(curious))


def test_what_a_group_found_out_of_a_model_is_learned(play: Callable[..., Stage]) -> None:
    profile = Profile(step_s={64: {1: 0.5}}, beside_s={64: 0.0}, preview_map=[[0.0, 0.0, 0.0]])

    async def knowing(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=1, profile=profile))
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        await stage.supervisor.ready.wait()
        assert stage.learned == {"tp1": profile}

    play(scenario, FakeLauncher(knowing))


def test_step_times_are_learned_and_make_better_estimates(play: Callable[..., Stage]) -> None:
    async def measured(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=1))
        start = await rank.hear()
        who = {"task_id": start.task_id, "attempt": start.attempt}
        await rank.say(StepDone(**who, steps_done=1, rows=2, step_s=30.0))
        await rank.hear()

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit(num_inference_steps=4)
        await stage.until(task_id, TaskState.PROCESSING)
        while (stage.queue.prospects.seconds_left(stage.task(task_id)) or 0) < 80:
            await asyncio.sleep(0.02)
        assert stage.queue.prospects.seconds_left(stage.task(task_id)) == pytest.approx(90, abs=1)
        assert stage.queue.cancel(task_id)

    play(scenario, FakeLauncher(measured))


def test_previews_are_kept_until_the_task_ends(play: Callable[..., Stage]) -> None:
    shown, end = asyncio.Event(), asyncio.Event()

    async def showing(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=1))
        while isinstance(start := await rank.hear(), StartTask):
            who = {"task_id": start.task_id, "attempt": start.attempt}
            for data in (b"first", b"second"):
                await rank.say(Preview(**who, image_index=1, data=data))
            shown.set()
            await end.wait()
            await rank.do(start)

    async def scenario(stage: Stage) -> None:
        task_id = stage.submit(num_images=2, num_previews=2)
        await shown.wait()
        while stage.results.previews.get(preview_key(task_id, 1, 1)) != b"second":
            await asyncio.sleep(0.005)
        end.set()
        await stage.until(task_id, TaskState.COMPLETED)
        while stage.results.previews.names():
            await asyncio.sleep(0.005)

    play(scenario, FakeLauncher(showing))
