"""One scrape of a server to which everything has happened that is counted."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from hidream_server.api.app import create_app
from hidream_server.api.converting import Converting
from hidream_server.api.counting import Counting
from hidream_server.api.feed import Feed
from hidream_server.api.following import Following
from hidream_server.api.keyring import Keyring, LinkSigner
from hidream_server.api.limits import Limits
from hidream_server.api.services import Services
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.engine.layout_ladder import LayoutLadder
from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.engine.supervisor import Deadlines, Supervisor
from hidream_server.engine.worker_group import WorkerGroup
from hidream_server.ipc.messages import (
    GroupReady,
    ImageDone,
    LoadModel,
    RankUsage,
    StartTask,
    StepDone,
    Stop,
    TaskBegun,
    TaskDone,
    TaskFailed,
)
from hidream_server.layouts.layout import Layout
from hidream_server.metrics.metrics import Metrics
from hidream_server.model_directory.reading import describe
from hidream_server.observer import Observers
from hidream_server.queue.bounds import Bounds
from hidream_server.queue.outlook import Outlook
from hidream_server.queue.prospects import Prospects
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.settings import Settings
from hidream_server.store.batches import BatchStore
from hidream_server.store.files import FileStore
from hidream_server.store.keys import KeyStore
from hidream_server.store.results import in_folder
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.engine.fake_ranks import LOAD, FakeLauncher, FakeRank
from tests.support import a_member, new_database, new_outlook, params, submit

SETTINGS = Settings(max_queue_length=3)
STAGES = {"encode_s": 0.2, "denoise_s": 3.0, "decode_s": 0.4, "save_s": 0.1}


async def counted_rank(rank: FakeRank) -> None:
    """Do what a task's prompt says, and say what was used."""
    while (command := await rank.hear()) is not None:
        match command:
            case LoadModel():
                await rank.say(GroupReady(load_s=1.5, memory_bytes=1000))
                for number in (0, 1):
                    used = RankUsage(
                        rank=number, peak_memory_bytes=5000 + number, prompts=4, prompts_cached=3
                    )
                    await rank.say(used)
            case StartTask(params=asked) if asked.prompt == "die":
                await rank.say(TaskBegun(task_id=command.task_id, attempt=command.attempt))
                return
            case StartTask():
                await paint(rank, command)
            case Stop():
                return


async def paint(rank: FakeRank, start: StartTask) -> None:
    who = {"task_id": start.task_id, "attempt": start.attempt}
    await rank.say(TaskBegun(**who))
    if start.params.prompt == "large":
        await rank.say(TaskFailed(**who, reason="OutOfMemoryError: CUDA out of memory. Tried to"))
        return
    # The second is of another image in the same forward, as a task of company would say it.
    for step in range(2):
        await rank.say(StepDone(**who, steps_done=2 * step + 1, rows=2, step_s=0.12))
        await rank.say(StepDone(**who, steps_done=2 * step + 2, rows=2, step_s=0.12, first=False))
    await rank.say(ImageDone(**who, image_index=0, data=b"picture"))
    reused = 1 if start.params.prompt == "still" else None
    await rank.say(TaskDone(**who, timings=STAGES, reused_steps=reused))


class Stage:
    """A server without its socket: the app, a supervisor and fake ranks on one task table."""

    def __init__(self, folder: Path) -> None:
        self.metrics = Metrics()
        observer, outlook = Observers(*self.metrics.observers), new_outlook()
        self.database = new_database(folder / "tasks.db")
        #: The app's; the supervisor's listens in a loop that ends with it.
        self.queue = self._new_queue(outlook)
        patient = PatientQueue(self._new_queue(outlook), "stage")
        results = in_folder(folder)
        self.supervisor = Supervisor(
            patient,
            RunningTasks(patient, Leavings(results), outlook, observer=observer),
            lambda _layout: WorkerGroup(FakeLauncher(counted_rank), 1, {}, LOAD),
            LayoutLadder([Layout()], tries=2, cool_down_s=100),
            Deadlines(load_s=30, step_s=30, drain_s=30),
            observer=observer,
        )
        model = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
        services = Services(
            settings=SETTINGS,
            limits=Limits(SETTINGS, model),
            model=model,
            queue=self.queue,
            results=results,
            members=lambda: [a_member(self.supervisor.health.now)],
            following=Following(self.queue),
            feed=Feed(self.queue.history),
            counting=Counting(self.queue),
            converting=Converting(),
            keyring=Keyring(KeyStore(self.database)),
            signer=LinkSigner(b"a secret", 3600.0),
            metrics=self.metrics,
            files=FileStore(self.database),
            batches=BatchStore(self.database),
        )
        self.client = TestClient(create_app(services), raise_server_exceptions=False)

    def _new_queue(self, outlook: Outlook) -> TaskQueue:
        store = TaskStore(self.database)
        return TaskQueue(
            store,
            Prospects(store, outlook),
            max_crashes=1,
            bounds=Bounds.of(SETTINGS),
            observer=Observers(*self.metrics.observers),
        )

    async def until_ended(self, task: Task) -> None:
        while (found := self.queue.get(task.id)) is None or found.state.is_open:
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Let tasks end in every way."""
        running = asyncio.create_task(self.supervisor.run())
        for prompt in ("fine", "fine", "large", "die", "still"):
            [task] = submit(self.queue, [params(prompt=prompt)])
            await self.until_ended(task)
        self.supervisor.stop()
        await running

    def ask(self) -> None:
        """Submit what stays in the queue, is refused, cancelled, and overdue."""
        accepted = [
            self.client.post("/submit", json={"prompt": "a sea"}).json()["task_id"]
            for _ in range(3)
        ]
        assert self.client.post("/submit", json={"prompt": "a sea"}).status_code == 429
        assert self.client.post("/submit", json={"prompt": ""}).status_code == 422
        assert self.client.post(f"/tasks/{accepted[0]}/cancel").status_code == 200
        assert self.queue.end_overdue(queued_s=1e-9, running_s=0) == 2
        [waiting] = submit(self.queue, [params()])
        assert self.client.get(f"/status/{waiting.id}").status_code == 200


@pytest.fixture(scope="session")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What /metrics says after all that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hidream_server.engine.supervisor._FIRST_PAUSE_S", 0.01)
        patch.setattr("hidream_server.engine.worker_group._STOP_GRACE_S", 0.2)
        stage = Stage(tmp_path_factory.mktemp("metrics"))
        asyncio.run(asyncio.wait_for(stage.run(), 20))
        assert stage.queue.counts()[TaskState.COMPLETED] == 3
        stage.ask()
        # What is said of the first scrape can be seen in the second one.
        texts = [stage.client.get("/metrics").text for _ in range(2)]
        stage.database.dispose()
    return texts[-1]


@pytest.fixture(scope="session")
def families(scraped: str) -> Mapping[str, Metric]:
    """Every metric of the scrape by the name under which it has its HELP."""
    found = text_string_to_metric_families(scraped)
    return {metric.name: metric for metric in found}
