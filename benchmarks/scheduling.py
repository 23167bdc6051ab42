"""What changing between tasks at step edges gains: waiting times over those of first come first
served, which is the same server with one task on hand.

Each comparison is made on both servers in turn, on the demo model with one thread. Prints every
ratio and the medians beside the goals.

    python -m benchmarks.scheduling --pairs 5
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

from tests.e2e.server import Server

POLL_S = 0.02
BURST = 8
LONG = {"num_inference_steps": 50, "guidance_scale": 5.0}
SHORT = {"num_inference_steps": 16, "guidance_scale": 0.0}


@contextmanager
def servers() -> Iterator[dict[str, Server]]:
    """Start one server that changes between tasks and one that does not."""
    with tempfile.TemporaryDirectory() as folder:
        started = {
            "turns": Server(Path(folder) / "turns", ("-t", "cpu")),
            "fifo": Server(Path(folder) / "fifo", ("-t", "cpu", "--max-running", "1")),
        }
        try:
            for server in started.values():
                server.start()
                server.wait_for("/readyz")
            yield started
        finally:
            for server in started.values():
                server.stop()
                server.clean_up()


def submit(server: Server, size: int, number: int, **what: object) -> tuple[str, float]:
    """Return a new task and when it was submitted; no two prompts are alike."""
    begun = time.perf_counter()
    prompt = f"a red circle, number {number}"
    return server.submit(prompt=prompt, resolution=f"{size}x{size}", **what), begun


def seconds(server: Server, task: tuple[str, float]) -> float:
    """Wait for a task; return its seconds from submission to the end."""
    task_id, begun = task
    while (state := server.status(task_id)["status"]) != "completed":
        if state == "failed":
            raise RuntimeError(f"Task {task_id} failed.")
        time.sleep(POLL_S)
    return time.perf_counter() - begun


def behind_a_long_one(server: Server, size: int, number: int) -> float:
    """Return a short task's seconds behind a long one, over those it takes alone."""
    alone = seconds(server, submit(server, size, number, **SHORT))
    long = submit(server, size, number + 1, **LONG)
    server.wait_status(long[0], "processing", progress=4)
    behind = seconds(server, submit(server, size, number + 2, **SHORT))
    seconds(server, long)
    return behind / alone


def burst(server: Server, size: int, number: int, mixed: bool) -> float:
    """Return the mean seconds of tasks that come at once, long and short ones if `mixed`."""
    kinds = [LONG if mixed and n % 2 == 0 else SHORT for n in range(BURST)]
    tasks = [submit(server, size, number + n, **kind) for n, kind in enumerate(kinds)]
    ends: dict[str, float] = {}
    while len(ends) < BURST:
        for task_id, begun in tasks:
            if task_id not in ends and server.status(task_id)["status"] == "completed":
                ends[task_id] = time.perf_counter() - begun
        time.sleep(POLL_S)
    return statistics.mean(ends.values())


def in_turn(pairs: int, measure: Callable[[str, int], float]) -> Iterator[dict[str, float]]:
    """Measure both servers, each first in every other pair; the first pair warms up."""
    for pair in range(pairs + 1):
        order = ("turns", "fifo") if pair % 2 else ("fifo", "turns")
        found = {name: measure(name, 1000 * pair) for name in order}
        if pair > 0:
            yield found


def show(what: str, values: list[float], goal: str) -> None:
    low, high = min(values), max(values)
    print(f"{what}: median {statistics.median(values):.2f} ({low:.2f} to {high:.2f}), goal {goal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--size", type=int, default=512, help="width and height in pixels")
    options = parser.parse_args()
    pairs, size = options.pairs, options.size
    with servers() as both:
        found = list(in_turn(pairs, lambda name, n: behind_a_long_one(both[name], size, n)))
        show("16 steps behind 50 guided, over alone", [f["turns"] for f in found], "<= 1.3")
        show("the same, first come first served", [f["fifo"] for f in found], "about 7")
        for mixed in (False, True):
            found = list(in_turn(pairs, lambda name, n, m=mixed: burst(both[name], size, n, m)))
            what = "long and short" if mixed else "equal"
            ratios = [f["turns"] / f["fifo"] for f in found]
            show(f"mean of {BURST} {what} tasks at once, over first come", ratios, "<= 0.9")
    print(f"{size}x{size}, one thread, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
