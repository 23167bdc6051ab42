"""What changing between tasks at step edges gains: waiting times over those of first come first
served, and how well the server knows when a task will be done.

All of it on one server with the demo model and one thread, the two ways in turn: first come first
served is a client that hands over the next task when the last is done. Prints every median beside
its goal.

    python -m benchmarks.scheduling --pairs 5
"""

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

from tests.e2e.server import Server

POLL_S = 0.1
BURST = 8
#: Tasks and the seconds after the start at which they come.
Arrivals = Sequence[tuple[float, dict[str, object]]]
LONG = {"num_inference_steps": 50, "guidance_scale": 5.0}
SHORT = {"num_inference_steps": 16, "guidance_scale": 0.0}
#: What people ask for: mostly short tasks, by work most of the time long ones.
MIX = (SHORT, SHORT, SHORT, {"num_inference_steps": 28, "guidance_scale": 0.0}, LONG)


class Bench:
    """A server, and tasks of one size on it of which no two have the same prompt."""

    def __init__(self, server: Server, size: int) -> None:
        self._server = server
        self._size = size
        self._number = 0
        self._alone: dict[str, float] = {}

    def submit(self, what: dict[str, object]) -> str:
        self._number += 1
        prompt = f"a red circle, number {self._number}"
        return self._server.submit(prompt=prompt, resolution=f"{self._size}x{self._size}", **what)

    def wait(self, task_id: str) -> None:
        while (state := self._server.status(task_id)["status"]) != "completed":
            if state == "failed":
                raise RuntimeError(f"Task {task_id} failed.")
            time.sleep(POLL_S)

    def seconds(self, what: dict[str, object]) -> float:
        """Return the seconds of a task from its submission to its end."""
        begun = time.perf_counter()
        self.wait(self.submit(what))
        return time.perf_counter() - begun

    def alone(self, what: dict[str, object]) -> float:
        """Return what a task takes by itself, measured once for each kind."""
        if str(what) not in self._alone:
            self._alone[str(what)] = statistics.median(self.seconds(what) for _ in range(3))
        return self._alone[str(what)]

    def behind_a_long_one(self) -> float:
        """Return a short task's seconds behind a long one, over those it takes alone."""
        alone = self.seconds(SHORT)
        long = self.submit(LONG)
        self._server.wait_status(long, "processing", progress=4)
        behind = self.seconds(SHORT)
        self.wait(long)
        return behind / alone

    def all_at_the_server(self, arrivals: Arrivals) -> list[float]:
        """Let tasks come when they come; return the seconds of each."""
        found = [0.0] * len(arrivals)
        start = time.perf_counter()

        def client(place: int, at: float, what: dict[str, object]) -> None:
            time.sleep(max(0.0, start + at - time.perf_counter()))
            found[place] = self.seconds(what)

        clients = [
            threading.Thread(target=client, args=(place, *arrival))
            for place, arrival in enumerate(arrivals)
        ]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        return found

    def one_by_one(self, arrivals: Arrivals) -> list[float]:
        """Do the same, but hand over each task when the one before it is done."""
        found = []
        start = time.perf_counter()
        for at, what in arrivals:
            time.sleep(max(0.0, start + at - time.perf_counter()))
            self.wait(self.submit(what))
            found.append(time.perf_counter() - start - at)
        return found

    def estimates(self) -> list[float]:
        """Return how far off the estimates of tasks of all kinds were, as shares of the truth."""
        kinds = random.Random(self._number).choices(MIX, k=BURST)
        begun = time.perf_counter()
        tasks = [self.submit(what) for what in kinds]
        said = [
            time.perf_counter() - begun + self._server.status(task_id)["estimated_time"]
            for task_id in tasks
        ]
        truth: dict[str, float] = {}
        while len(truth) < len(tasks):
            for task_id in tasks:
                if task_id not in truth and self._server.status(task_id)["status"] == "completed":
                    truth[task_id] = time.perf_counter() - begun
            time.sleep(POLL_S / 4)
        return [abs(s - truth[t]) / truth[t] for s, t in zip(said, tasks, strict=True)]


def poisson(bench: Bench, load: float, tasks: int, seed: int) -> Arrivals:
    """Return tasks of the mix at random times, so many that the server is busy for that share."""
    draw = random.Random(seed)
    kinds = draw.choices(MIX, k=tasks)
    mean_s = statistics.mean(bench.alone(what) for what in MIX)
    at, found = 0.0, []
    for what in kinds:
        found.append((at, what))
        at += draw.expovariate(load / mean_s)
    return found


def both_ways(
    bench: Bench, pairs: int, arrivals: Callable[[int], Arrivals]
) -> Iterator[tuple[Arrivals, list[float], list[float]]]:
    """Yield arrivals with their seconds at the server and one by one; each is first in turn."""
    for pair in range(pairs):
        coming = arrivals(pair)
        ways = [bench.all_at_the_server, bench.one_by_one]
        found = {way.__name__: way(coming) for way in (ways if pair % 2 else reversed(ways))}
        yield coming, found["all_at_the_server"], found["one_by_one"]


def show(what: str, values: Sequence[float], goal: str) -> None:
    low, high = min(values), max(values)
    text = f"{what}: median {statistics.median(values):.2f} ({low:.2f} to {high:.2f}), goal {goal}"
    print(text, flush=True)


def compare(bench: Bench, pairs: int, tasks: int) -> None:
    bench.behind_a_long_one()
    behind = [bench.behind_a_long_one() for _ in range(pairs)]
    show("16 steps behind 50 guided, over alone", behind, "<= 1.3")
    for name, kinds in (("equal", [SHORT]), ("long and short", [LONG, SHORT])):
        burst = [(0.0, kinds[n % len(kinds)]) for n in range(BURST)]
        ratios = [
            statistics.mean(ours) / statistics.mean(fifo)
            for _, ours, fifo in both_ways(bench, pairs, lambda _, burst=burst: burst)
        ]
        show(f"mean of {BURST} {name} tasks at once, over first come", ratios, "<= 0.9")
    gains = []
    for coming, ours, fifo in both_ways(bench, pairs, lambda n: poisson(bench, 0.8, tasks, n)):
        limits = [2 * bench.alone(what) for _, what in coming]
        within = [
            100 * statistics.mean(s <= limit for s, limit in zip(seconds, limits, strict=True))
            for seconds in (ours, fifo)
        ]
        print(f"  within 2 x alone at 0.8 load: {within[0]:.0f} %, first come {within[1]:.0f} %")
        gains.append(within[0] - within[1])
    show("points gained", gains, ">= 30")
    errors = sorted(error for _ in range(pairs) for error in bench.estimates())
    print(f"p90 of {len(errors)} errors of the estimate: {errors[int(0.9 * len(errors))]:.3f},")
    print(f"  median {statistics.median(errors):.3f}, goal p90 <= 0.05")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="width and height in pixels")
    parser.add_argument("--tasks", type=int, default=40, help="tasks of a run at 0.8 load")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), ("-t", "cpu"))
        server.start()
        try:
            server.wait_for("/readyz")
            compare(Bench(server, options.size), options.pairs, options.tasks)
        finally:
            server.stop()
            server.clean_up()
    size, load = options.size, os.getloadavg()[0]
    print(f"{size}x{size}, one thread, load {load:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
