"""The app on a real task table and the demo model's description, with an engine that is told."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
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
from hidream_server.engine.health import EngineHealth, EngineState
from hidream_server.metrics.metrics import Metrics
from hidream_server.model_directory.reading import describe
from hidream_server.queue.bounds import Bounds
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.settings import Settings
from hidream_server.store.batches import BatchStore
from hidream_server.store.database import Database
from hidream_server.store.files import FileStore
from hidream_server.store.keys import KeyStore
from hidream_server.store.results import Results, in_folder
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task
from tests.api.support import Engine
from tests.support import a_member, new_database, new_queue


@pytest.fixture(scope="session")
def model():
    return describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)


@pytest.fixture
def engine() -> Engine:
    """Return what the app believes of the engine; a test may change `now`."""
    return Engine(
        EngineHealth(
            state=EngineState.HEALTHY,
            since=1_700_000_000.0,
            warm=True,
            layout="tp1",
            wanted_layout="tp1",
        )
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = new_database(tmp_path / "tasks.db")
    yield database
    database.dispose()


@pytest.fixture
def store(database: Database) -> TaskStore:
    return TaskStore(database)


@pytest.fixture
def keys(database: Database) -> KeyStore:
    """Return the server's keys; none at first, so that everything is open."""
    return KeyStore(database)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Return where results are kept; a module may say elsewhere."""
    return in_folder(tmp_path)


@pytest.fixture
def services(
    results: Results,
    model,
    engine: Engine,
    database: Database,
    store: TaskStore,
    keys: KeyStore,
) -> Services:
    settings, queue = Settings(), new_queue(store)
    return Services(
        settings=settings,
        limits=Limits(settings, model),
        model=model,
        queue=queue,
        results=results,
        files=FileStore(database),
        batches=BatchStore(database),
        members=lambda: [a_member(engine.now)],
        following=Following(queue),
        feed=Feed(queue.history),
        counting=Counting(queue),
        converting=Converting(),
        keyring=Keyring(keys),
        signer=LinkSigner(b"a secret", 3600.0),
        metrics=Metrics(),
    )


@pytest.fixture
def queue(services: Services) -> TaskQueue:
    return services.queue


@pytest.fixture
def app(services: Services) -> FastAPI:
    return create_app(services)


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client_with(services: Services, store: TaskStore) -> Callable[..., TestClient]:
    """Return a function that makes a client of a server with other settings or another variant."""

    def make(variant: str | None = None, **options: Any) -> TestClient:
        settings = Settings(**options)
        model = replace(services.model, variant=variant) if variant else services.model
        queue = new_queue(store, bounds=Bounds.of(settings))
        other = replace(
            services,
            settings=settings,
            model=model,
            limits=Limits(settings, model),
            queue=queue,
            following=Following(queue),
        )
        return TestClient(create_app(other), raise_server_exceptions=False)

    return make


@pytest.fixture
def running(client: TestClient, queue: TaskQueue) -> Callable[..., Task]:
    """Return a function that submits a request and claims it."""

    def run(**fields: Any) -> Task:
        assert client.post("/submit", json={"prompt": "a red circle"} | fields).status_code == 200
        [task] = queue.claim("group", 1)
        return task

    return run


@pytest.fixture
def completed(services: Services, running) -> Callable[..., Task]:
    """Return a function that submits a request and completes it with pictures."""

    def complete(reused_steps: int | None = None, **fields: Any) -> Task:
        task = running(**fields)
        names = [f"{task.id}_{task.attempt}_{index}.png" for index in range(task.params.num_images)]
        for index, name in enumerate(names):
            services.results.pictures.put(name, b"\x89PNG picture %d" % index)
        timings = {"denoise_s": 1.5}
        claim = (task.id, task.attempt)
        assert services.queue.complete(claim, names, timings, reused_steps=reused_steps)
        found = services.queue.get(task.id)
        assert found is not None
        return found

    return complete
