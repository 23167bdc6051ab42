"""From one variant to another: all that differs is the transformer's weights."""

import statistics
import time

import psutil
import torch

from benchmarks.full_size.bench import HOISTED, Bench
from benchmarks.full_size.inputs import make_inputs
from benchmarks.full_size.report import Report
from benchmarks.full_size.timing import Stopwatch
from benchmarks.full_size.ways import Engine, make_network, make_transformer
from benchmarks.full_size.weights import Weights, make_weights

#: Switches of each kind.
_SWITCHES = 3


def measure_switch(bench: Bench, report: Report) -> None:
    """Weights that wait in the host's memory, and weights that are on the device, too."""
    _from_host(bench, report)
    if bench.needed_bytes(2, components=False) <= bench.free_bytes():
        _resident(bench, report)
    else:
        report.leave_out("switch, both on the device", "there is no room for two transformers")
    bench.clean_up()


def _whole(weights: Weights) -> Weights:
    """Return the tensors that are not views of others, as an expert's are."""
    return {
        name: tensor
        for name, tensor in weights.items()
        if tensor.nbytes == tensor.untyped_storage().nbytes()
    }


def _bytes(weights: Weights) -> int:
    return sum(tensor.nbytes for tensor in _whole(weights).values())


def _from_host(bench: Bench, report: Report) -> None:
    """Copy them over those that are there: a server would finish its step before."""
    name, pinned = "weights from the host's memory", bench.device.is_accelerator
    mine = _whole(bench.weights)
    if psutil.virtual_memory().available < 1.2 * _bytes(mine):
        report.leave_out(f"switch, {name}", "the host has no room for them")
        return
    start = time.perf_counter()
    waiting = {
        key: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned).copy_(tensor)
        for key, tensor in mine.items()
    }
    report.add("switch", name, "making ready", "s", time.perf_counter() - start)
    samples = []
    with torch.inference_mode():
        for _ in range(_SWITCHES):
            bench.device.synchronize()
            start = time.perf_counter()
            for key, tensor in mine.items():
                tensor.copy_(waiting[key], non_blocking=True)
            bench.device.synchronize()
            samples.append(time.perf_counter() - start)
    report.add("switch", name, "switch", "s", samples)
    speed = _bytes(mine) / statistics.median(samples)
    report.add("switch", name, "speed", "GB/s", speed / 1e9)


def _resident(bench: Bench, report: Report) -> None:
    """Take steps with one network and the other in turn, and several with one."""
    where = (bench.device.torch_device, bench.device.dtype)
    weights = make_weights(bench.size.transformer, *where)
    transformer = make_transformer(bench.size, weights, bench.mixture)
    network = make_network(transformer, hoisted=True)
    one, other = bench.engine(HOISTED), Engine(network, bench.demo, bench.size, bench.device)
    inputs = make_inputs(bench.size, 2, bench.device)
    calls = [engine.call(inputs) for engine in (one, other)]
    for call in calls:
        call()
    watch = Stopwatch(bench.device)
    watch.mark()
    for number in range(4 * _SWITCHES):
        # One, one, other, other: every second is the first after a switch.
        calls[number // 2 % 2]()
        watch.mark()
    seconds = watch.seconds()
    first, second = seconds[2::2], seconds[3::2]
    name = "both on the device"
    report.add_times("switch", name, "forward after a switch", first)
    report.add_times("switch", name, "forward after that", second)
