"""All steps of a picture, of which some are reused instead of computed: lossy, to be measured."""

import math
from functools import partial

import torch
from torch import Tensor

from benchmarks.full_size.bench import HOISTED, STEP_CACHE, STOCK, TOLERANCE, Bench
from benchmarks.full_size.inputs import make_inputs
from benchmarks.full_size.parts.steps import psnr
from benchmarks.full_size.report import Report
from benchmarks.full_size.timing import Stopwatch, in_turn
from hidream_server.model_directory.description import Variant

_PART = "step-cache"


def measure_step_cache(bench: Bench, report: Report) -> None:
    """The guided steps of Full, by stock, with every step computed, and with some reused."""
    inputs = make_inputs(bench.size, 2, bench.device)
    steps = bench.size.picture_steps[Variant.FULL]
    latents: dict[str, Tensor] = {}

    def denoise(name: str) -> list[float]:
        watch = Stopwatch(bench.device)
        watch.mark()
        latents[name] = bench.way(name).denoise(inputs, steps, watch)
        return [sum(watch.seconds())]

    names = (STOCK, HOISTED, STEP_CACHE)
    for name in names:
        bench.way(name).forward(inputs)
    runs = in_turn({name: partial(denoise, name) for name in names}, bench.rounds, bench.budget)
    seconds = {name: [run[0] for run in found] for name, found in runs.items()}
    for name in names:
        report.add(_PART, name, "all steps", "s", seconds[name])
        if name != STOCK:
            pairs = zip(seconds[STOCK], seconds[name], strict=True)
            report.add(_PART, name, "times as fast", "", [stock / own for stock, own in pairs])
            _report_likeness(report, name, "latents", latents[name], latents[STOCK])
    reused = bench.engine(STEP_CACHE).reused_steps
    report.add(_PART, STEP_CACHE, "computed steps", "", steps - reused)
    _report_likeness(
        report, STEP_CACHE, f"latents, from {HOISTED}", latents[STEP_CACHE], latents[HOISTED]
    )
    report.note(
        _PART,
        STEP_CACHE,
        f"tolerance {TOLERANCE}, {steps} steps; which steps trained weights would let it reuse, and"
        " what pictures lose by that, random ones cannot tell",
    )


def _report_likeness(report: Report, name: str, what: str, found: Tensor, expected: Tensor) -> None:
    if not torch.isfinite(found).all():
        raise ValueError("what it computes is not finite")
    likeness = psnr(found, expected)
    if math.isfinite(likeness):
        report.add(_PART, name, what, "dB", likeness)
    else:
        report.note(_PART, f"{name}, {what}", "they are the same")
