"""Groups that take turns at asking, and groups that all ask at each submission.

Each has the real `Admission`, hears the real hints, and works by waiting: so there can be many.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from benchmarks.scale.filling import CLIENTS, TASK
from benchmarks.scale.tables import Report, p50, p99
from benchmarks.scale.watch import Watch
from hidream_server.engine.admission import Admission
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.database import open_postgresql
from hidream_server.store.hints import Hints
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task
from tests.postgresql import Postgresql
from tests.support import new_queue

_PROCESSES = 2
#: What a group may have on hand, as in a server.
_PLACES = 8
#: So much of what the groups could do is asked of them.
_LOAD = 0.7


class _OnHand(list[Task]):
    """What admission must know of running tasks."""

    has_suspect = False

    @property
    def first_due(self) -> float:
        return min((task.due for task in self), default=float("inf"))

    def add(self, task: Task) -> None:
        self.append(task)


class _Asking(PatientQueue):
    """Counts how often it is asked, and how long what it is given has waited."""

    def __init__(self, queue: TaskQueue, owner: str) -> None:
        super().__init__(queue, owner)
        self.asked = 0
        self.waited_s: list[float] = []

    async def claim(self, due_before: float) -> list[Task]:
        self.asked += 1
        claimed = await super().claim(due_before)
        self.waited_s += [time.time() - task.created_at for task in claimed]
        return claimed


def crowd(
    server: Postgresql, groups: Sequence[int], pairs: int, seconds: float, work_s: float
) -> list[Report]:
    """Measure pairs of the two for each number of groups, in turn."""
    report = Report(
        f"Groups with {work_s:g} s of work a task, asked for {100 * _LOAD:.0f} % of what they can",
        ("groups", "ask", "claims/task", "PostgreSQL ms of a core/task", "wait p50 ms", "p99 ms"),
    )
    for count in groups:
        found: dict[str, list[tuple[int, list[float], float]]] = {"all": [], "in turns": []}
        for pair in range(pairs):
            for arm in ("all", "in turns") if pair % 2 == 0 else ("in turns", "all"):
                known = count if arm == "in turns" else 1
                found[arm].append(_one(server, count, known, seconds, work_s))
        for arm, runs in found.items():
            waited_s = [each for _, waited, _ in runs for each in waited]
            tasks = len(waited_s) or 1
            asked = sum(each for each, _, _ in runs) / tasks
            cpu_ms = 1000 * sum(each for _, _, each in runs) / tasks
            report.add(count, arm, asked, cpu_ms, p50(waited_s), p99(waited_s))
    return [report]


def _one(
    server: Postgresql, groups: int, known: int, seconds: float, work_s: float
) -> tuple[int, list[float], float]:
    spawn = multiprocessing.get_context("spawn")
    url, begin = _empty(server), spawn.Barrier(_PROCESSES + 1)
    results: SimpleQueue[tuple[int, list[float]]] = spawn.SimpleQueue()
    shares = [len(range(number, groups, _PROCESSES)) for number in range(_PROCESSES)]
    processes = [
        spawn.Process(
            target=_work, args=(url, share, known, seconds, work_s, begin, results), daemon=True
        )
        for share in shares
    ]
    for process in processes:
        process.start()
    with Watch(server, url, sample=False) as watch:
        begin.wait(120)
        _submit(url, groups * _LOAD / work_s, seconds)
        found = [results.get() for _ in processes]
    for process in processes:
        process.join(60)
    waited_s = [each for _, waited in found for each in waited]
    return sum(asked for asked, _ in found), waited_s, watch.cpu_s


def _empty(server: Postgresql) -> str:
    url = server.new_database()
    open_postgresql(url).dispose()
    return url


def _submit(url: str, rate: float, seconds: float) -> None:
    """Submit at a steady rate."""
    database = open_postgresql(url)
    queue, start = new_queue(TaskStore(database)), time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        queue.submit(queue.draft([TASK], f"client {number % CLIENTS}"))
    database.dispose()


def _work(
    url: str,
    groups: int,
    known: int,
    seconds: float,
    work_s: float,
    begin: Barrier,
    results: "SimpleQueue[tuple[int, list[float]]]",
) -> None:
    database = open_postgresql(url)
    queue = new_queue(TaskStore(database))
    hints = Hints(url, queue.hear)
    hints.listening.wait(60)
    asking = [_Asking(queue, str(number)) for number in range(groups)]
    begin.wait(120)
    asyncio.run(_groups(asking, known, time.monotonic() + seconds, work_s))
    results.put((sum(each.asked for each in asking), [s for each in asking for s in each.waited_s]))
    hints.close()
    database.dispose()


async def _groups(asking: list[_Asking], known: int, until: float, work_s: float) -> None:
    async with asyncio.TaskGroup() as group:
        for queue in asking:
            group.create_task(_group(queue, known, until, work_s))


async def _group(queue: _Asking, known: int, until: float, work_s: float) -> None:
    """Do what a supervisor does, with a pause for the work; a task at a time."""
    on_hand, wake = _OnHand(), asyncio.Event()
    admission = Admission(queue, on_hand, _PLACES, lambda: known)  # type: ignore[arg-type]

    def submitted() -> None:
        admission.news()
        wake.set()

    queue.listen(submitted, lambda _id: None)
    done_at = float("inf")
    while (now := time.monotonic()) < until:
        if now >= done_at:
            task = on_hand.pop(0)
            await queue.complete((task.id, task.attempt), [f"{task.id}.png"], {}, 10**6)
            done_at = float("inf")
        while await admission.next_task() is not None:
            pass
        if on_hand and done_at == float("inf"):
            done_at = time.monotonic() + work_s
        pause_s = min(1.0, done_at - time.monotonic(), admission.ask_in_s)
        try:
            async with asyncio.timeout(max(0.0, pause_s)):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
