"""A server on a real socket whose tasks are painted in an instant, and the official client."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import openai
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from hidream_server.api.services import Services
from hidream_server.store.pictures import picture_name, preview_key
from hidream_server.task import Task
from tests.e2e.server import free_port


def png(width: int, height: int, colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


class Painter:
    """Stands in for a worker group: paints what is queued, until it is told to stand still."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stop = threading.Event()
        #: Tasks wait while it is not set.
        self.works = threading.Event()
        self.works.set()
        #: What all tasks fail for.
        self.failing = ""
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Painter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            if self.works.is_set():
                for task in self._services.queue.claim("group", 1):
                    self.paint(task)

    def paint(self, task: Task) -> None:
        services, params, claim = self._services, task.params, (task.id, task.attempt)
        if self.failing:
            services.queue.fail(claim, self.failing)
            return
        for index in range(params.num_images):
            for preview in range(params.num_previews):
                data = png(params.width // 4, params.height // 4, "gray")
                services.results.previews.put(preview_key(task.id, task.attempt, index), data)
                services.queue.beat({claim: preview + 1}, [(claim, index)])
        names = [picture_name(task.id, task.attempt, j) for j in range(params.num_images)]
        for name in names:
            services.results.pictures.put(name, png(params.width, params.height))
        services.queue.complete(claim, names, {})


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app on loopback; yield its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.005)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def painter(services: Services) -> Iterator[Painter]:
    with Painter(services) as painter:
        yield painter


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    with served(app) as address:
        yield address


@pytest.fixture
def new_sdk(address: str) -> Iterator[Callable[..., openai.OpenAI]]:
    with ExitStack() as stack:

        def make(key: str = "any", retries: int = 0) -> openai.OpenAI:
            client = openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=retries)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def sdk(new_sdk: Callable[..., openai.OpenAI]) -> openai.OpenAI:
    return new_sdk()
