"""What several ranks gain on a CPU, and what a resident group gains over a start for each task.

First steps under layouts of two ranks against one rank, in turn, by gloo, one thread a rank. Then
whole requests: a server whose group stays against one that starts a project for each task, in turn,
each with two ranks; the pictures of a pair must be the same. Prints every ratio and the medians.

    python -m benchmarks.layouts --pairs 7
"""

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import numpy as np

from benchmarks.overhead import server_picture, timed
from hidream_server.cli.bench import run_layouts
from hidream_server.cli.deciding import decide
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.settings import Settings
from tests.e2e.server import Server
from tests.support import params

ONE, TWO = "tp1", ("tp2", "cfg2", "sp2", "ep2")
GOAL = 20
PROJECT = Path(__file__).parent / "project"


def compare_steps(pairs: int, size: int, steps: int) -> None:
    """Print step time of each layout over that of one rank, each pair measured side by side."""
    serving = decide(
        Settings(
            model_path=DEMO_MODEL_PATH,
            extra_model_path=DEMO_EXTRA_MODEL_PATH,
            device_type="cpu",
            device_count=2,
        )
    )
    # The order turns around with every pair, so that a drift of the machine favours nobody.
    there = [ONE, *TWO]
    order = [name for pair in range(pairs) for name in (there, there[::-1])[pair % 2]]
    seconds = defaultdict(list)
    for timing in run_layouts(serving, order, size, size, steps):
        seconds[timing.layout].append(timing.step_s)
    for name in TWO:
        ratios = [two / one for two, one in zip(seconds[name], seconds[ONE], strict=True)]
        print(f"{size}x{size}: step under {name} over one rank: {spread(ratios)}")


def compare_requests(pairs: int, size: int, steps: int) -> None:
    """Print request time with a project over request time with a resident group."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        two = ("--device-type", "cpu", "--device-count", "2")
        project = ("--executor", "project", "--project-path", str(PROJECT))
        servers = {
            "resident": Server(Path(folder) / "resident", two),
            "project": Server(Path(folder) / "project", (*two, *project)),
        }
        for server in servers.values():
            server.start()
            stack.callback(server.clean_up)
            stack.callback(server.stop)
            server.wait_for("/readyz")
        ratios = []
        for number in range(pairs + 1):
            task = params(
                prompt=f"a red circle, number {number}",
                width=size,
                height=size,
                num_inference_steps=steps,
                seed=number,
            )
            arms = list(servers) if number % 2 else list(servers)[::-1]
            taken = {arm: timed(partial(server_picture, servers[arm], task)) for arm in arms}
            np.testing.assert_array_equal(taken["resident"][1], taken["project"][1])
            # The first pair warms up.
            if number > 0:
                ratios.append(taken["project"][0] / taken["resident"][0])
                shown = ", ".join(f"{arm} {taken[arm][0]:.2f} s" for arm in sorted(taken))
                print(f"pair {number}: {shown}, ratio {ratios[-1]:.1f}")
    print(f"{size}x{size}, {steps} steps: project over resident: {spread(ratios)}, goal >= {GOAL}")


def spread(ratios: list[float]) -> str:
    median = statistics.median(ratios)
    return f"median {median:.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="of each timing of a layout")
    parser.add_argument(
        "--request-steps", type=int, nargs="+", default=[4, 50], help="of each compared request"
    )
    options = parser.parse_args()
    for size in (512, 1024):
        compare_steps(options.pairs, size, options.steps)
    for steps in options.request_steps:
        compare_requests(options.pairs, 512, steps)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
