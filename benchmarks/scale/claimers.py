"""Processes that do what worker groups do to the database, and nothing else.

Each group claims a task, beats, completes it, and submits another one, so that the queue stays as
long as it is.
"""

import asyncio
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

import psutil

from benchmarks.scale.filling import CLIENTS, TASK
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.database import open_postgresql
from hidream_server.store.hints import Hints
from hidream_server.store.tasks import TaskStore
from tests.support import new_queue

_T = TypeVar("_T")
#: As many processes, at most, share the groups: more would only wait for the cores.
_PROCESSES = 4
Seconds = dict[str, list[float]]


class Claimers:
    """Groups in processes of their own; ready once this is made."""

    def __init__(self, url: str, groups: int, beats: int, seconds: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        count = min(groups, _PROCESSES)
        self._begin = spawn.Barrier(count + 1)
        self._results: SimpleQueue[tuple[Seconds, float]] = spawn.SimpleQueue()
        shares = [len(range(number, groups, count)) for number in range(count)]
        self._processes = [
            spawn.Process(
                target=_work,
                args=(url, number, share, beats, seconds, self._begin, self._results),
                daemon=True,
            )
            for number, share in enumerate(shares)
        ]
        for process in self._processes:
            process.start()

    def run(self, ready: Callable[[], object] = lambda: None) -> tuple[Seconds, float]:
        """Let them work; return the seconds of each verb, and those of a core they took."""
        self._begin.wait(120)
        ready()
        all_s: Seconds = defaultdict(list)
        cpu_s = 0.0
        for _ in self._processes:
            seconds, busy_s = self._results.get()
            cpu_s += busy_s
            for verb, each in seconds.items():
                all_s[verb] += each
        for process in self._processes:
            process.join(60)
        return all_s, cpu_s


def _work(
    url: str,
    number: int,
    groups: int,
    beats: int,
    seconds: float,
    begin: Barrier,
    results: "SimpleQueue[tuple[Seconds, float]]",
) -> None:
    database = open_postgresql(url)
    queue = new_queue(TaskStore(database))
    hints = Hints(url, queue.hear)
    hints.listening.wait(60)
    found: Seconds = defaultdict(list)
    begin.wait(120)
    before = _cpu_s()
    until = time.monotonic() + seconds
    asyncio.run(_groups(queue, [f"{number}.{n}" for n in range(groups)], beats, until, found))
    results.put((dict(found), _cpu_s() - before))
    hints.close()
    database.dispose()


async def _groups(
    queue: TaskQueue, names: list[str], beats: int, until: float, found: Seconds
) -> None:
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(_group(queue, name, beats, until, found))


async def _group(queue: TaskQueue, name: str, beats: int, until: float, found: Seconds) -> None:
    patient, turn = PatientQueue(queue, name), 0
    while time.monotonic() < until:
        for task in await _timed(found, "claim", patient.claim(float("inf"))):
            claim = task.id, task.attempt
            for step in range(1, beats + 1):
                await _timed(found, "beat", patient.beat({claim: step}))
            done = patient.complete(claim, [f"{task.id}.png"], {"denoise": 1.0}, 10**6)
            await _timed(found, "complete", done)
        [draft] = queue.draft([TASK], f"client {turn % CLIENTS}")
        await _timed(found, "submit", asyncio.to_thread(queue.submit, [draft]))
        turn += 1


async def _timed(found: Seconds, verb: str, work: Coroutine[Any, Any, _T]) -> _T:
    start = time.perf_counter()
    result = await work
    found[verb].append(time.perf_counter() - start)
    return result


def _cpu_s() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system)
