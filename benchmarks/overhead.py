"""What the server costs: one client, end to end, over a bare loop on the same diffusers parts.

Both run on the demo model with one thread, in turn, with a new prompt for each pair; the pictures
of a pair must be the same. Prints each pair's ratio and their median beside the goal.

    python -m benchmarks.overhead --pairs 9
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.task import TaskParams
from tests.e2e.server import Server
from tests.reference import reference_picture, stock_pipeline
from tests.support import params

GOAL = 1.02
POLL_S = 0.05


def server_picture(server: Server, task: TaskParams) -> NDArray[np.uint8]:
    """Submit, poll, download, open: everything a client does."""
    task_id = server.submit(
        prompt=task.prompt,
        resolution=f"{task.width}x{task.height}",
        num_inference_steps=task.num_inference_steps,
        guidance_scale=task.guidance_scale,
        seed=task.seed,
    )
    while (state := server.status(task_id)["status"]) != "completed":
        if state == "failed":
            raise RuntimeError(f"Task {task_id} failed.")
        time.sleep(POLL_S)
    data = server.client.get(f"/download/{task_id}").raise_for_status().content
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def timed(paint: Callable[[], NDArray[np.uint8]]) -> tuple[float, NDArray[np.uint8]]:
    start = time.perf_counter()
    picture = paint()
    return time.perf_counter() - start, picture


def compare(server: Server, pairs: int, size: int, steps: int) -> list[tuple[float, float]]:
    """Return bare and server seconds of each pair, after one pair to warm up."""
    pipe = stock_pipeline(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    found = []
    for number in range(pairs + 1):
        task = params(
            prompt=f"a red circle, number {number}",
            width=size,
            height=size,
            num_inference_steps=steps,
            seed=number,
        )
        arms = {
            "bare": partial(reference_picture, pipe, task),
            "server": partial(server_picture, server, task),
        }
        # Each is first in every other pair.
        order = ("bare", "server") if number % 2 else ("server", "bare")
        seconds, pictures = {}, {}
        for arm in order:
            seconds[arm], pictures[arm] = timed(arms[arm])
        np.testing.assert_array_equal(pictures["bare"], pictures["server"])
        if number > 0:
            found.append((seconds["bare"], seconds["server"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--size", type=int, default=512, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        try:
            server.wait_for("/readyz")
            found = compare(server, options.pairs, options.size, options.steps)
        finally:
            server.stop()
            server.clean_up()
    ratios = [served / bare for bare, served in found]
    for number, (bare, served) in enumerate(found, 1):
        print(f"pair {number}: bare {bare:.3f} s, server {served:.3f} s, ratio {served / bare:.3f}")
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"{options.size}x{options.size}, {options.steps} steps, guided, one thread")
    print(f"load average {load:.1f} on {cores} cores; every pair's pictures were the same")
    print(
        f"server over bare loop: median {statistics.median(ratios):.3f}"
        f" (min {min(ratios):.3f}, max {max(ratios):.3f}), goal <= {GOAL}"
    )


if __name__ == "__main__":
    main()
