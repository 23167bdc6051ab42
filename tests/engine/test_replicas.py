"""Several supervisors on one queue: they work at once, stop together, and have one health."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import uvloop

from hidream_server.engine.health import EngineState
from hidream_server.engine.layout_ladder import LayoutLadder
from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.replicas import Replicas
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.engine.supervisor import Deadlines, Supervisor
from hidream_server.engine.worker_group import WorkerGroup
from hidream_server.ipc.messages import GroupReady, StartTask
from hidream_server.layouts.layout import Layout
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.results import in_folder
from hidream_server.store.tasks import TaskStore
from hidream_server.task import TaskState
from tests.engine.fake_ranks import LOAD, FakeLauncher, FakeRank
from tests.support import new_database, new_outlook, new_queue, params, submit


def a_replica(queue: TaskQueue, folder: Path, launcher: FakeLauncher) -> Supervisor:
    def new_group(_layout: Layout) -> WorkerGroup:
        return WorkerGroup(launcher, 1, {}, LOAD)

    patient = PatientQueue(queue, "replicas")
    return Supervisor(
        patient,
        RunningTasks(patient, Leavings(in_folder(folder)), new_outlook()),
        new_group,
        LayoutLadder([Layout()], tries=2, cool_down_s=100),
        Deadlines(load_s=30, step_s=30, drain_s=30),
    )


def meeting(parties: int) -> tuple[Callable[[FakeRank], object], Counter[int]]:
    """Return a script whose ranks begin only when so many have a task, and who did how many."""
    barrier, done = asyncio.Barrier(parties), Counter[int]()

    async def script(rank: FakeRank) -> None:
        await rank.hear()
        await rank.say(GroupReady(load_s=1, memory_bytes=7))
        while isinstance(command := await rank.hear(), StartTask):
            await barrier.wait()
            done[id(rank)] += 1
            await rank.do(command)

    return script, done


def test_each_replica_has_a_task_of_its_own_at_the_same_time(tmp_path: Path) -> None:
    async def main() -> None:
        store = TaskStore(new_database(tmp_path / "tasks.db"))
        queue = new_queue(store)
        script, done = meeting(3)
        supervisors = [a_replica(queue, tmp_path, FakeLauncher(script)) for _ in range(3)]
        engine = Replicas(supervisors)
        tasks = submit(queue, [params(seed=seed) for seed in range(6)])
        running = asyncio.create_task(engine.run())
        async with asyncio.timeout(20):
            await engine.wait_ready()
            while queue.counts()[TaskState.COMPLETED] < len(tasks):
                await asyncio.sleep(0.005)
            assert [one.health.now.state for one in supervisors] == [EngineState.HEALTHY] * 3
            engine.stop()
            await running
        assert sorted(done.values()) == [2, 2, 2]
        assert all(queue.get(task.id).attempt == 1 for task in tasks)
        assert engine.stopping
        assert engine.running == 0

    uvloop.run(main())


def test_an_engine_without_groups_runs_until_it_is_stopped() -> None:
    async def main() -> None:
        engine = Replicas([])
        running = asyncio.create_task(engine.run())
        async with asyncio.timeout(20):
            await engine.wait_ready()
            assert not running.done()
            engine.stop()
            await running
        assert engine.stopping

    uvloop.run(main())
