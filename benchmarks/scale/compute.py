"""Tasks a minute of real workers on the demo model: as many pictures as the cores can paint."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# One thread for each process, which the cores have to share.
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

from benchmarks.scale.tables import Report
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.database import open_postgresql
from hidream_server.store.groups import GroupStore
from hidream_server.store.tasks import TaskStore
from hidream_server.task import TaskState
from tests.e2e.server import PATIENCE_S, Server, share_profiles
from tests.postgresql import Postgresql
from tests.support import new_queue, params, submit

_SMALL = params(width=256, height=256, num_inference_steps=8, guidance_scale=0.0)
_POLL_S = 0.05


def compute(server: Postgresql, workers: Sequence[int], rounds: int, tasks: int) -> list[Report]:
    """Measure each number of workers in turn, each time with workers that have just started."""
    report = Report(
        f"Workers on the demo model, 256x256, 8 steps, {os.cpu_count()} cores",
        ("workers", "tasks/min", "from", "to", "over 1 worker"),
    )
    rates: dict[int, list[float]] = {count: [] for count in workers}
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        profiles = Path(folder) / "profiles"
        profiles.mkdir()
        for turn in range(rounds):
            for count in workers if turn % 2 == 0 else reversed(workers):
                place = Path(folder) / f"{turn}-{count}"
                rates[count].append(_rate(server, place, profiles, count, tasks))
    first = statistics.median(rates[workers[0]])
    for count, each in rates.items():
        rate = statistics.median(each)
        report.add(count, rate, min(each), max(each), rate / first)
    return [report]


def _rate(server: Postgresql, folder: Path, profiles: Path, count: int, tasks: int) -> float:
    """Return the tasks a minute of so many workers."""
    url = server.new_database()
    shared = ("--database-url", url, "--results", str(folder / "results"))
    workers = [Server(folder / f"worker{n}", shared, verb="worker") for n in range(count)]
    database = open_postgresql(url)
    queue, groups = new_queue(TaskStore(database)), GroupStore(database)
    try:
        for worker in workers:
            share_profiles(worker.folder / "var", profiles)
            worker.start()
        _wait(lambda: sum(bool(each.health["warm"]) for each in groups.seen(0.0)) == count)
        # The first of each makes what later ones find made.
        _paint(queue, count * 2)
        start = time.perf_counter()
        _paint(queue, tasks)
        return 60 * tasks / (time.perf_counter() - start)
    finally:
        for worker in workers:
            worker.stop()
            worker.clean_up()
        database.dispose()


def _paint(queue: TaskQueue, tasks: int) -> None:
    done = queue.counts()[TaskState.COMPLETED]
    submit(queue, [_SMALL] * tasks)
    _wait(lambda: queue.counts()[TaskState.COMPLETED] == done + tasks)


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError("The workers do not come to an end.")
        time.sleep(_POLL_S)
