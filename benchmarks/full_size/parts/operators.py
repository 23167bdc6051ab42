"""What the device can do, and what single operators make of it."""

import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.full_size import operations
from benchmarks.full_size.bench import STOCK, Bench
from benchmarks.full_size.report import Report
from benchmarks.full_size.timing import calls, in_turn
from benchmarks.full_size.ways import make_transformer
from hidream_server.model_directory.description import TEXT_TOKENS
from hidream_server.worker.outbox import first_line

_ROWS = 2
#: The one that writes all scores down is none that anybody would choose.
_BACKENDS = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
)


def measure_ceiling(bench: Bench, report: Report) -> None:
    size = bench.size
    work = 2.0 * size.matrix**3
    product = f"{size.matrix} x {size.matrix} x {size.matrix}"
    report.add_times("ceiling", product, "time", bench.product_seconds)
    speeds = [work / seconds / 1e12 for seconds in bench.product_seconds]
    report.add("ceiling", product, "speed", "TFLOP/s", speeds)
    # Every byte is read once and written once.
    moved = [2 * size.copied_bytes / seconds / 1e9 for seconds in bench.copy_seconds]
    copy = f"copy of {size.copied_bytes / 2**20:.0f} MiB"
    report.add_times("ceiling", copy, "time", bench.copy_seconds)
    report.add("ceiling", copy, "speed", "GB/s", moved)


def measure_operators(bench: Bench, report: Report) -> None:
    """Operators of the first single-stream block, on two rows of tokens."""
    stock = make_transformer(bench.size, bench.weights)
    ours = make_transformer(bench.size, bench.weights, bench.mixture)
    with torch.inference_mode():
        _measure(bench, report, stock, ours)


def _measure(
    bench: Bench,
    report: Report,
    stock: HiDreamImageTransformer2DModel,
    ours: HiDreamImageTransformer2DModel,
) -> None:
    size, config = bench.size, bench.size.network
    tokens = size.image_tokens + 3 * TEXT_TOKENS
    where = {"device": bench.device.torch_device, "dtype": bench.device.dtype}
    hidden = torch.randn(_ROWS, tokens, operations.width(config), **where)
    block = stock.single_stream_blocks[0].block
    grouped = ours.single_stream_blocks[0].block.ff_i
    work = operations.feed_forward(config, _ROWS * tokens)
    arms: dict[str, Callable[[], object]] = {
        f"MoE, {STOCK}": lambda: block.ff_i(hidden),
        "MoE, grouped": lambda: grouped(hidden),
    }
    found = _in_turn(bench, arms)
    for name, samples in found.items():
        _report(bench, report, name, samples, work)
    stock_s, ours_s = (statistics.median(samples) for samples in found.values())
    report.add("operators", "MoE, grouped", "times as fast", "", stock_s / ours_s)
    rotary = stock.pe_embedder(torch.zeros(1, tokens, 3, device=bench.device.torch_device))
    [samples] = _in_turn(bench, {"": lambda: block.attn1(hidden, None, None, rotary)}).values()
    work = operations.attention(config, _ROWS, tokens)
    _report(bench, report, "attention with projections", samples, work)
    heads = hidden.unflatten(-1, (config.num_attention_heads, -1)).transpose(1, 2)
    work = operations.scores(config, _ROWS, tokens)
    for name, samples in _in_turn(bench, _attentions(bench, report, heads)).items():
        _report(bench, report, name, samples, work)


def _attentions(bench: Bench, report: Report, heads: Tensor) -> dict[str, Callable[[], object]]:
    """Return attention alone: the implementation that torch chooses, and each that there is."""

    def attend() -> Tensor:
        return F.scaled_dot_product_attention(heads, heads, heads)

    def attend_by(backend: SDPBackend) -> Tensor:
        with sdpa_kernel(backend):
            return attend()

    arms: dict[str, Callable[[], object]] = {"attention alone": attend}
    for backend in _BACKENDS:
        arm, name = partial(attend_by, backend), f"attention alone, {backend.name}"
        try:
            arm()
            bench.device.synchronize()
        except RuntimeError as error:
            report.leave_out(name, f"not on this device: {first_line(error)}")
        else:
            arms[name] = arm
    return arms


def _in_turn(bench: Bench, arms: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the seconds of each arm's calls; each round calls it several times."""
    rounds = in_turn(
        {name: partial(calls, bench.device, arm, bench.size.calls) for name, arm in arms.items()},
        bench.rounds,
        bench.budget,
    )
    return {name: [seconds for run in runs for seconds in run] for name, runs in rounds.items()}


def _report(bench: Bench, report: Report, name: str, samples: list[float], work: float) -> None:
    report.add_times("operators", name, "time", samples)
    speed = work / statistics.median(samples)
    report.add("operators", name, "speed", "TFLOP/s", speed / 1e12)
    report.add("operators", name, "of a large product", "%", 100 * speed / bench.operations_per_s)
