"""What `--fp8` costs, in likeness to the exact picture; what `--step-cache` saves and costs.

On the demo model with one thread, with Full's sampler and with Dev's and Fast's, with which a
server refuses `--step-cache`. An exact picture and one that reuses steps are painted in turn, each
first in every other pair; a third is exact with as many steps as the second computed, which is the
other way to save them. Of fp8 a CPU has the rounding, not the speed. Prints the median over
prompts, and the least and the most.

    python -m benchmarks.lossy --sampler full --tolerance 0.05
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import numpy as np
from numpy.typing import NDArray

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.devices.cpu import CPU
from hidream_server.model_directory.reading import describe
from hidream_server.parallel.place import alone
from hidream_server.pipeline.step_cache import StepCache
from hidream_server.task import InferType, TaskParams
from hidream_server.worker.assembly import assemble
from hidream_server.worker.device import open_device
from hidream_server.worker.model_runner import ModelRunner
from tests.support import edit_json, fast_copy, params, psnr

TOLERANCES = (0.02, 0.05, 0.1, 0.2)
PROMPTS = (
    "a red circle on a blue background",
    "two yellow stars on a black background",
    "a peaceful lake and snowy mountains at night with stars",
    "a wheat field under a blue sky",
    "a green heart on a yellow background",
    "a desert with a red sun",
    "three white squares on a purple background",
    "a forest in the fog",
)
#: Steps and guidance scale.
KINDS = {"full": (50, 5.0), "dev": (28, 0.0), "fast": (16, 0.0)}


@dataclass(frozen=True)
class Painted:
    pixels: NDArray[np.uint8]
    seconds: float
    reused: int


@dataclass(frozen=True)
class Pair:
    """Of one prompt and tolerance."""

    reused: float
    likeness_db: float
    fewer_steps_db: float
    seconds: float


def model(sampler: str, folder: Path) -> Path:
    """Return the demo model with a variant's sampler."""
    if sampler == "full":
        return DEMO_MODEL_PATH
    copy = fast_copy(folder)
    edit_json(copy / "scheduler" / "scheduler_config.json", shift=6.0 if sampler == "dev" else 3.0)
    return copy


def paint(runner: ModelRunner, task: TaskParams, tolerance: float = 0.0) -> Painted:
    """Paint a task's image, from its prompt, which is known, to its pixels."""
    start = time.perf_counter()
    [run] = runner.begin(task)
    run.step_cache = StepCache(tolerance, task.num_inference_steps)
    while not run.finished:
        if run.reuses_next:
            runner.reuse(run)
        else:
            runner.step([run])
    pixels = runner.decode(run)
    return Painted(pixels, time.perf_counter() - start, run.step_cache.reused)


def compare(runner: ModelRunner, task: TaskParams, tolerance: float, swapped: bool) -> Pair:
    order = (tolerance, 0.0) if swapped else (0.0, tolerance)
    found = {each: paint(runner, task, each) for each in order}
    exact, quick = found[0.0], found[tolerance]
    computed = task.num_inference_steps - quick.reused
    fewer = paint(runner, replace(task, num_inference_steps=computed))
    return Pair(
        reused=quick.reused / task.num_inference_steps,
        likeness_db=psnr(quick.pixels, exact.pixels),
        fewer_steps_db=psnr(fewer.pixels, exact.pixels),
        seconds=quick.seconds / exact.seconds,
    )


def measure(sampler: str, tolerances: Sequence[float], size: int) -> None:
    steps, guidance = KINDS[sampler]
    print(f"{sampler}: {steps} steps, guidance {guidance}, {size}x{size}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        description = describe(model(sampler, Path(folder)), DEMO_EXTRA_MODEL_PATH)
        device = open_device(CPU, 0)
        runner = assemble(description, alone(), device, CPU.mixture, 2**28, fp8=True)
        tasks = [
            params(
                prompt=prompt,
                width=size,
                height=size,
                num_inference_steps=steps,
                guidance_scale=guidance,
                seed=number,
            )
            for number, prompt in enumerate(PROMPTS)
        ]
        for task in tasks:
            # Its embeddings are known from here on.
            runner.begin(task)
        measure_fp8(runner, tasks)
        for tolerance in tolerances:
            pairs = [
                compare(runner, task, tolerance, swapped=number % 2 == 1)
                for number, task in enumerate(tasks)
            ]
            show(tolerance, pairs)


def measure_fp8(runner: ModelRunner, tasks: Sequence[TaskParams]) -> None:
    likeness = [
        psnr(
            paint(runner, replace(task, infer_type=InferType.PERFORMANCE)).pixels,
            paint(runner, task).pixels,
        )
        for task in tasks
    ]
    print(f"fp8: {middle(likeness, '.1f', ' dB')}", flush=True)


def show(tolerance: float, pairs: Sequence[Pair]) -> None:
    said = [
        middle([100 * pair.reused for pair in pairs], ".0f", " % of steps reused"),
        middle([pair.likeness_db for pair in pairs], ".1f", " dB"),
        middle([pair.fewer_steps_db for pair in pairs], ".1f", " dB with fewer steps instead"),
        middle([pair.seconds for pair in pairs], ".2f", " of the seconds"),
    ]
    print(f"{tolerance}: {', '.join(said)}; load {os.getloadavg()[0]:.1f}", flush=True)


def middle(values: Sequence[float], form: str, unit: str) -> str:
    least, most = min(values), max(values)
    return f"{statistics.median(values):{form}} ({least:{form}} to {most:{form}}){unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sampler", choices=KINDS, action="append")
    parser.add_argument("--tolerance", type=float, action="append")
    parser.add_argument("--size", type=int, default=512, help="width and height in pixels")
    options = parser.parse_args()
    for sampler in options.sampler or KINDS:
        measure(sampler, options.tolerance or TOLERANCES, options.size)


if __name__ == "__main__":
    main()
