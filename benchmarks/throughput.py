"""What many clients get out of one server, over a bare loop on the same diffusers parts.

Both run on the demo model with one thread, in turn, with new prompts each time. Prints each kind's
ratios and their median beside the goal, and how long the slowest of many waits.

    python -m benchmarks.throughput --pairs 5
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import httpx2
from diffusers import HiDreamImagePipeline

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.task import TaskParams
from tests.e2e.server import Server
from tests.reference import reference_picture, stock_pipeline
from tests.support import params

CLIENTS = 8
#: A quarter of a second is often; at 20 a second eight clients take half a core.
POLL_S = 0.25


@dataclass(frozen=True)
class Kind:
    """Tasks of one kind, and what the ratio of throughputs is to be."""

    name: str
    goal: float
    size: int
    guidance: float
    steps: int = 16

    def task(self, number: int) -> TaskParams:
        return params(
            prompt=f"a red circle, number {number}",
            width=self.size,
            height=self.size,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            seed=number,
        )


KINDS = (
    Kind("512x512, no guidance", 1.6, 512, 0.0),
    Kind("512x512, guided", 1.2, 512, 5.0),
    Kind("1024x1024, no guidance", 1.0, 1024, 0.0),
    Kind("1024x1024, guided", 1.0, 1024, 5.0),
)


def serial(pipe: HiDreamImagePipeline, tasks: list[TaskParams]) -> float:
    """Return the seconds in which a loop paints them one after the other."""
    start = time.perf_counter()
    for task in tasks:
        reference_picture(pipe, task)
    return time.perf_counter() - start


def fetch(server: Server, task: TaskParams) -> float:
    """Submit, poll, download; return the seconds that took."""
    start = time.perf_counter()
    with httpx2.Client(base_url=server.client.base_url, timeout=60) as http:
        body = {
            "prompt": task.prompt,
            "resolution": f"{task.width}x{task.height}",
            "num_inference_steps": task.num_inference_steps,
            "guidance_scale": task.guidance_scale,
            "seed": task.seed,
        }
        task_id = http.post("/submit", json=body).raise_for_status().json()["task_id"]
        while (state := http.get(f"/status/{task_id}").json()["status"]) != "completed":
            if state == "failed":
                raise RuntimeError(f"Task {task_id} failed.")
            time.sleep(POLL_S)
        http.get(f"/download/{task_id}").raise_for_status()
    return time.perf_counter() - start


def served(server: Server, tasks: list[TaskParams]) -> tuple[float, list[float]]:
    """Let clients share out the tasks; return the seconds for all, and those of each."""
    waiting, seconds = list(tasks), []

    def client() -> None:
        while waiting:
            seconds.append(fetch(server, waiting.pop(0)))

    start = time.perf_counter()
    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return time.perf_counter() - start, seconds


@dataclass(frozen=True)
class Found:
    """Throughputs over those of a loop, seconds that tasks waited, and those of one alone."""

    ratios: list[float]
    waits: list[float]
    alone: list[float]


def compare(server: Server, pipe: HiDreamImagePipeline, kind: Kind, pairs: int, each: int) -> Found:
    """Compare tasks of one kind; the first pair warms up."""
    ratios, waits, alone = [], [], []
    for pair in range(pairs + 1):
        tasks = [kind.task(1000 * pair + n) for n in range(CLIENTS * each)]
        seconds: dict[str, float] = {}
        for arm in ("serial", "served") if pair % 2 else ("served", "serial"):
            if arm == "serial":
                seconds[arm] = serial(pipe, tasks)
            else:
                alone.append(fetch(server, kind.task(1000 * pair + 999)))
                seconds[arm], latencies = served(server, tasks)
                waits += latencies if pair else []
        if pair:
            ratios.append(seconds["serial"] / seconds["served"])
    return Found(ratios, waits, alone)


def show(kind: Kind, found: Found) -> None:
    ratios, slowest = found.ratios, statistics.quantiles(found.waits, n=100)[98]
    print(
        f"{kind.name}: throughput of {CLIENTS} clients over a loop, median"
        f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), goal >="
        f" {kind.goal}; p99 of {len(found.waits)} waits over {CLIENTS} x alone"
        f" {slowest / (CLIENTS * statistics.median(found.alone)):.2f}, goal <= 1.0",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--each", type=int, default=2, help="tasks of each client in a pair")
    parser.add_argument("--only", default="", help="kinds whose name begins so")
    options = parser.parse_args()
    pipe = stock_pipeline(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), ("-t", "cpu"))
        server.start()
        try:
            server.wait_for("/readyz")
            for kind in (kind for kind in KINDS if kind.name.startswith(options.only)):
                show(kind, compare(server, pipe, kind, options.pairs, options.each))
        finally:
            server.stop()
            server.clean_up()
    print(f"one thread, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
