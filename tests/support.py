"""Helpers shared by the tests."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.engine.health import EngineHealth
from hidream_server.engine.membership import Member
from hidream_server.queue.bounds import NO_BOUNDS, Bounds
from hidream_server.queue.outlook import Outlook
from hidream_server.queue.prospects import Prospects
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.database import Database, open_sqlite
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskParams

PARAMS = TaskParams(
    prompt="a red circle on a blue background",
    negative_prompt="",
    width=512,
    height=512,
    num_inference_steps=4,
    guidance_scale=5.0,
    num_images=1,
    seed=42,
)


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def params(**changes: object) -> TaskParams:
    """Return parameters of a small task with some of them changed."""
    return replace(PARAMS, **changes)


def tokens(task: TaskParams) -> int:
    """Return the image tokens of a square picture of the demo model."""
    return task.width * task.height // 64**2


def new_outlook(
    clock: Callable[[], float] = time.time, places: int = 8, lanes: int = 1, fp8: bool = False
) -> Outlook:
    """Return an outlook on groups that give every image its steps to itself."""
    return Outlook(tokens, places, max_rows=1, lanes=lanes, fp8=fp8, clock=clock)


def new_queue(
    store: TaskStore,
    outlook: Outlook | None = None,
    clock: Callable[[], float] = time.time,
    max_crashes: int = 3,
    bounds: Bounds = NO_BOUNDS,
) -> TaskQueue:
    prospects = Prospects(store, outlook or new_outlook(clock), clock)
    return TaskQueue(store, prospects, max_crashes, bounds, clock)


def submit(queue: TaskQueue, requests: list[TaskParams], client: str = "") -> list[Task]:
    """Draft tasks and accept them."""
    drafts = queue.draft(requests, client)
    queue.submit(drafts)
    return drafts


def a_member(health: EngineHealth, **more: object) -> Member:
    """Return a worker group on this machine's CPU that is doing like this."""
    group = Member(
        id="here#0",
        machine="here",
        version="1.0",
        model={"name": "HiDream-I1-Demo"},
        devices={"type": "cpu", "ids": [0], "dtype": "float32"},
        health=health,
        pace={},
        tasks=[],
    )
    return replace(group, **more)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two pictures in dB; infinite for equal ones."""
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def demo_copy(folder: Path) -> Path:
    """Copy the demo model into `folder`, its Llama beside it; return the model's directory."""
    shutil.copytree(DEMO_EXTRA_MODEL_PATH, folder / DEMO_EXTRA_MODEL_PATH.name)
    return Path(shutil.copytree(DEMO_MODEL_PATH, folder / DEMO_MODEL_PATH.name))


def fast_copy(folder: Path) -> Path:
    """Copy the demo model as a Fast-style checkpoint: the sampler is FlowMatchLCM."""
    model = demo_copy(folder)
    shutil.rmtree(model / "scheduler")
    (model / "scheduler_fast").rename(model / "scheduler")
    return model


def linked_demo(folder: Path) -> Path:
    """Like `demo_copy`, but the weights are links: a test that changes one must use `rewrite`."""

    def copy(source: str, target: str) -> None:
        if source.endswith(".safetensors"):
            Path(target).symlink_to(source)
        else:
            shutil.copyfile(source, target)

    extra = folder / DEMO_EXTRA_MODEL_PATH.name
    shutil.copytree(DEMO_EXTRA_MODEL_PATH, extra, copy_function=copy)
    return Path(shutil.copytree(DEMO_MODEL_PATH, folder / DEMO_MODEL_PATH.name, copy_function=copy))


def rewrite(path: Path, data: bytes) -> None:
    """Put a new file where a file, a link or nothing was."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def edit_json(path: Path, **changes: object) -> None:
    """Change values of a JSON object in a file; `...` takes one out."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {name: value for name, value in content.items() if value is not ...}
    rewrite(path, json.dumps(kept).encode())


@cache
def _empty_database() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.db"
        open_sqlite(path).dispose()
        return path.read_bytes()


def new_database(path: Path) -> Database:
    """Return a new database; all that are made in one run share one migration."""
    if not path.exists():
        path.write_bytes(_empty_database())
    return open_sqlite(path)
