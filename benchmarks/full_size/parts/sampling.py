"""What comes between two forwards: a sampler's step, on the host and on the device."""

import time
from collections.abc import Callable
from functools import partial

import diffusers
import torch
from torch import Generator

from benchmarks.full_size.bench import Bench
from benchmarks.full_size.report import Report
from hidream_server.pipeline.sampling import DiffusersScheduler, Sampler, first_noise
from hidream_server.pipeline.sampling_device import sampling_device

_CPU = torch.device("cpu")
#: Those before are warm-up: a sampler of several steps' memory has less to do in them.
_FIRST = 3


def measure_sampling(bench: Bench, report: Report) -> None:
    """Full's sampler, and Dev's and Fast's, from the output on the device to latents there."""
    device = bench.device.torch_device
    samplers: dict[str, Callable[[], DiffusersScheduler]] = {
        "UniPC": bench.demo.new_scheduler,
        "FlowMatchLCM": partial(diffusers.FlowMatchLCMScheduler, shift=3.0),
    }
    for name, new_scheduler in samplers.items():
        report.add_times("sampler", f"{name}, host", "step", _walk(bench, new_scheduler, _CPU))
        if device.type == "cpu":
            continue
        if sampling_device(new_scheduler, device, bench.size.image_tokens) == device:
            seconds = _walk(bench, new_scheduler, device)
            report.add_times("sampler", f"{name}, device", "step", seconds)
        else:
            report.leave_out(f"{name}, device", "the device cannot take its steps")


@torch.inference_mode()
def _walk(
    bench: Bench, new_scheduler: Callable[[], DiffusersScheduler], place: torch.device
) -> list[float]:
    """Return the seconds of steps that are taken at `place`, by the host's clock."""
    size, generator = bench.size, Generator().manual_seed(0)
    shape = (size.network.in_channels, size.latent_side, size.latent_side)
    latents, output = (
        first_noise(*shape, generator).to(bench.device.torch_device) for _ in range(2)
    )
    sampler = Sampler(new_scheduler(), _FIRST + size.calls, size.image_tokens)
    seconds = []
    for index in range(_FIRST + size.calls):
        bench.device.synchronize()
        start = time.perf_counter()
        stepped = sampler.step(output.to(place), index, latents.to(place), generator)
        latents = stepped.to(bench.device.torch_device)
        bench.device.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[_FIRST:]
