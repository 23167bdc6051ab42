"""What is around the steps: prompts, pixels, and whole pictures."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size.bench import HOISTED, Bench
from benchmarks.full_size.report import Report
from benchmarks.full_size.timing import calls
from benchmarks.full_size.ways import CACHE_BYTES, Engine
from benchmarks.full_size.weights import make_vae
from hidream_server.model_directory.description import Variant
from hidream_server.pipeline.autoencoder import decode
from hidream_server.pipeline.conditioning import PromptEncoder, TextEncoder
from hidream_server.pipeline.denoise import ImageRun
from hidream_server.pipeline.png import encode_png
from hidream_server.task import TaskParams

#: FlowMatchLCM's, see `Variant`.
_SHIFTS = {Variant.DEV: 6.0, Variant.FAST: 3.0}


def measure_decoding(bench: Bench, report: Report) -> None:
    """The autoencoder's network, and all from latents to numbers of 8 bits on the host."""
    vae, size = bench.components.vae, bench.size
    assert vae is not None
    shape = (1, size.network.in_channels, size.latent_side, size.latent_side)
    latents = torch.randn(shape)
    there = latents.to(bench.device.torch_device, bench.device.dtype)
    with torch.inference_mode():
        samples = calls(bench.device, lambda: vae.decode(there, return_dict=False), size.calls)
    report.add_times("decode", "autoencoder", "time", samples)
    speed = decoding_operations(bench) / statistics.median(samples)
    report.add("decode", "autoencoder", "speed", "TFLOP/s", speed / 1e12)
    whole = [_seconds(bench, lambda: decode(vae, latents)) for _ in range(1 + size.calls)]
    report.add_times("decode", "latents to pixels", "time", whole[1:])


def decoding_operations(bench: Bench) -> int:
    """Return those of the autoencoder's decoder, counted by torch on the meta device."""
    size, meta = bench.size, torch.device("meta")
    vae = make_vae(size, meta, bench.device.dtype)
    shape = (1, size.network.in_channels, size.latent_side, size.latent_side)
    latents = torch.empty(shape, device=meta, dtype=bench.device.dtype)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        vae.decode(latents)
    return int(counter.get_total_flops())


def measure_encoding(bench: Bench, report: Report) -> None:
    """Prompts that are new, and one that is remembered; projected for all blocks."""
    encoders = {
        name: TextEncoder(tokenizer=tokenizer, module=module, device=bench.device.torch_device)
        for name, (tokenizer, module) in bench.components.text_encoders.items()
    }
    network = bench.engine(HOISTED).network
    prompts = PromptEncoder(encoders, CACHE_BYTES, project=network.project)

    def encode(number: int) -> Callable[[], object]:
        return lambda: prompts.encode(f"a red circle, number {number}")

    new = [_seconds(bench, encode(number)) for number in range(1 + bench.size.calls)]
    known = [_seconds(bench, encode(bench.size.calls)) for _ in range(bench.size.calls)]
    report.add_times("encode", "a new prompt", "time", new[1:])
    report.add_times("encode", "a known prompt", "time", known)
    report.add("encode", "a new prompt", "remembered", "MB", prompts.encode("").nbytes / 1e6)


def measure_pictures(bench: Bench, report: Report) -> None:
    """Whole pictures of all variants: the same network, each variant's steps and sampler."""
    for variant in Variant:
        model = bench.components
        if variant in _SHIFTS:
            scheduler = partial(diffusers.FlowMatchLCMScheduler, shift=_SHIFTS[variant])
            model = replace(model, new_scheduler=scheduler)
        engine = Engine(bench.engine(HOISTED).network, model, bench.size, bench.device)
        _report_picture(bench, report, engine, variant)


def _report_picture(bench: Bench, report: Report, engine: Engine, variant: Variant) -> None:
    found: dict[str, float] = {}
    peak = bench.peak_bytes(lambda: found.update(_paint(bench, engine, variant)))
    name = f"{variant}, {bench.size.picture_steps[variant]} steps"
    report.add("pictures", name, "prompt to PNG", "s", sum(found.values()))
    for stage, seconds in found.items():
        report.add("pictures", name, stage, "s", seconds)
    if peak is not None:
        report.add("pictures", name, "peak memory", "GB", peak / 1e9)


def _paint(bench: Bench, engine: Engine, variant: Variant) -> dict[str, float]:
    """Return the seconds of each stage of a picture with prompts that are new."""
    runner = engine.runner
    task = TaskParams(
        prompt=f"a red circle, {variant}",
        negative_prompt="",
        width=bench.size.side,
        height=bench.size.side,
        num_inference_steps=bench.size.picture_steps[variant],
        guidance_scale=variant.default_guidance,
        num_images=1,
        seed=0,
    )
    images: list[ImageRun] = []
    pixels: list[NDArray[np.uint8]] = []

    def denoise() -> None:
        while not images[0].finished:
            runner.step(images)

    stages: dict[str, Callable[[], object]] = {
        "encode": lambda: images.extend(runner.begin(task)),
        "denoise": denoise,
        "decode": lambda: pixels.append(runner.decode(images[0])),
        "write": lambda: encode_png(pixels[0], runner.about(task, 0)),
    }
    return {stage: _seconds(bench, work) for stage, work in stages.items()}


def _seconds(bench: Bench, call: Callable[[], object]) -> float:
    """Return the seconds by the host's clock until the device has done a call."""
    bench.device.synchronize()
    start = time.perf_counter()
    call()
    bench.device.synchronize()
    return time.perf_counter() - start
