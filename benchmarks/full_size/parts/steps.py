"""Denoising steps, one way against the other: seconds, operations, waits, memory, distance."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.full_size import operations
from benchmarks.full_size.bench import (
    COMPILED,
    ENGINE,
    FP8,
    FP8_COMPILED,
    GROUPED,
    HOISTED,
    STOCK,
    Bench,
)
from benchmarks.full_size.inputs import Inputs, make_inputs
from benchmarks.full_size.report import Report
from benchmarks.full_size.timing import Stopwatch, in_turn
from benchmarks.full_size.waits import count_waits
from benchmarks.full_size.ways import Way
from hidream_server.worker.outbox import first_line

#: Compiling may take so long again at the full size, in seconds.
_COMPILING_S = 100.0
_COMPILED = (COMPILED, FP8_COMPILED)


def measure_steps(bench: Bench, report: Report) -> None:
    compare(bench, report, "step", 2, (STOCK, ENGINE, GROUPED, HOISTED))


def measure_one_row(bench: Bench, report: Report) -> None:
    compare(bench, report, "one-row", 1, (STOCK, ENGINE, GROUPED, HOISTED))


def measure_compiled(bench: Bench, report: Report) -> None:
    """Two rows and, if there is time, one, which is compiled apart."""
    if bench.backend != "inductor":
        why = f"traced, and run by {bench.backend}: nothing is fused, so it is no quicker"
        report.note("compile", COMPILED, why)
    compare(bench, report, "compile", 2, (STOCK, HOISTED, COMPILED))
    _with_time(bench, report, "compile, one row", 1, (STOCK, HOISTED, COMPILED))
    _forget_compiled(bench, COMPILED)


def measure_fp8(bench: Bench, report: Report) -> None:
    """Steps as they are and, if there is time, compiled."""
    why = bench.kind.fp8_obstacle([0])
    if why is not None:
        report.leave_out("fp8", why)
        return
    if not bench.device.is_accelerator:
        report.note("fp8", FP8, "expert by expert: only the rounding is that of a card")
    compare(bench, report, "fp8", 2, (STOCK, HOISTED, FP8))
    bench.forget(FP8)
    if bench.device.is_accelerator:
        _with_time(bench, report, "fp8, compiled", 2, (STOCK, HOISTED, FP8_COMPILED))
        _forget_compiled(bench, FP8_COMPILED)
    else:
        report.leave_out("fp8, compiled", "only on a card")


def _forget_compiled(bench: Bench, name: str) -> None:
    torch.compiler.reset()
    bench.forget(name)


def _with_time(bench: Bench, report: Report, part: str, rows: int, names: Sequence[str]) -> None:
    if bench.size.name == "full" and bench.budget.left < _COMPILING_S:
        report.leave_out(part, f"less than {_COMPILING_S:.0f} s were left")
    else:
        compare(bench, report, part, rows, names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _First:
    """What one forward and one denoising showed of a way."""

    output: Tensor
    latents: Tensor
    #: With all that is made and compiled when it is first called.
    seconds: float
    peak_bytes: float | None
    #: Of one forward and of one step; None where they cannot be counted.
    forward_waits: int | None
    step_waits: float | None


def compare(bench: Bench, report: Report, part: str, rows: int, names: Sequence[str]) -> None:
    """Report on steps of so many rows; what fails is said, and the others go on."""
    inputs = make_inputs(bench.size, rows, bench.device)
    firsts: dict[str, _First] = {}
    for name in names:
        try:
            firsts[name] = _first(bench, bench.way(name), inputs, name in _COMPILED)
        except Exception as error:
            report.fail(f"{part}: {name}", first_line(error))
        if name not in firsts:
            # Not inside of the handler, where what failed still holds its memory.
            bench.forget(name)
    arms = {name: partial(_seconds, bench, bench.way(name), inputs) for name in firsts}
    runs = in_turn(arms, bench.rounds, bench.budget)
    _report_seconds(bench, report, part, rows, runs)
    for name, first in firsts.items():
        _report_first(report, part, name, first)
        if STOCK in firsts and name != STOCK:
            _report_distance(report, part, name, first, firsts[STOCK])


def _first(bench: Bench, way: Way, inputs: Inputs, compiled: bool) -> _First:
    """Warm a way up; raise ValueError if what it computes is of no use."""
    found: list[Tensor] = []
    steps = bench.size.steps
    start = time.perf_counter()

    def denoise() -> Tensor:
        return way.denoise(inputs, steps, Stopwatch(bench.device))

    peak = bench.peak_bytes(lambda: found.extend((way.forward(inputs), denoise())))
    seconds = time.perf_counter() - start
    output, latents = found
    if not (torch.isfinite(output).all() and torch.isfinite(latents).all()):
        raise ValueError("what it computes is not finite")
    device = bench.device.torch_device
    cuda = device.type == "cuda"
    return _First(
        output=output,
        latents=latents,
        seconds=seconds,
        peak_bytes=peak,
        # What counts calls elsewhere would be compiled along.
        forward_waits=count_waits(device, way.call(inputs)) if cuda or not compiled else None,
        step_waits=count_waits(device, denoise) / steps if cuda else None,
    )


def _seconds(bench: Bench, way: Way, inputs: Inputs) -> list[float]:
    """Return the seconds of each step but the first."""
    watch = Stopwatch(bench.device)
    way.denoise(inputs, bench.size.steps, watch)
    return watch.seconds()


def _report_seconds(
    bench: Bench, report: Report, part: str, rows: int, runs: Mapping[str, list[list[float]]]
) -> None:
    operations_each = operations.forward(bench.size.network, bench.size.image_tokens, rows)
    for name, found in runs.items():
        samples = [seconds for run in found for seconds in run]
        report.add_times(part, name, "step", samples)
        if name != STOCK and STOCK in runs:
            pairs = zip(runs[STOCK], found, strict=True)
            ratios = [statistics.median(a) / statistics.median(b) for a, b in pairs]
            report.add(part, name, "times as fast", "", ratios)
        speed = operations_each / statistics.median(samples)
        report.add(part, name, "speed", "TFLOP/s", speed / 1e12)
        report.add(part, name, "of a large product", "%", 100 * speed / bench.operations_per_s)


def _report_first(report: Report, part: str, name: str, first: _First) -> None:
    if first.peak_bytes is not None:
        report.add(part, name, "peak memory", "GB", first.peak_bytes / 1e9)
    if first.forward_waits is not None:
        report.add(part, name, "waits of a forward", "", first.forward_waits)
    if first.step_waits is not None:
        report.add(part, name, "waits of a step", "", first.step_waits)
    if name in _COMPILED:
        report.add(part, name, "first run", "s", first.seconds)


def _report_distance(report: Report, part: str, name: str, first: _First, stock: _First) -> None:
    """Say how far from stock one output is, and the latents after all steps."""
    apart = first.output - stock.output
    report.add(part, name, "output, most", "", apart.abs().max().item())
    report.add(part, name, "output, relative", "", (apart.norm() / stock.output.norm()).item())
    likeness = psnr(first.latents, stock.latents)
    if math.isfinite(likeness):
        report.add(part, name, "latents", "dB", likeness)
    else:
        report.note(part, name, "the latents are the same")


def psnr(found: Tensor, expected: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB; the peak is the range of what is expected."""
    error = (found - expected).square().mean().item()
    peak = (expected.max() - expected.min()).item()
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)
