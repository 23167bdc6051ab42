"""Every way computes what diffusers computes; what is counted of it is right."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size import operations
from benchmarks.full_size.bench import (
    ENGINE,
    FP8,
    FP8_COMPILED,
    GROUPED,
    HOISTED,
    STEP_CACHE,
    STOCK,
    Bench,
)
from benchmarks.full_size.inputs import make_inputs
from benchmarks.full_size.parts.around import decoding_operations
from benchmarks.full_size.parts.steps import psnr
from benchmarks.full_size.sizes import FULL, SMALL
from benchmarks.full_size.timing import Budget, Stopwatch
from benchmarks.full_size.waits import count_waits
from hidream_server.devices.cpu import CPU
from hidream_server.model_directory.description import TEXT_TOKENS
from hidream_server.worker.device import RankDevice
from tests.layouts.configs import HIDREAM

#: Stock asks twice of each block's sparse feed-forward, in bincount and by reading what it says.
STOCK_WAITS = 2 * 4


@pytest.fixture(scope="module")
def full() -> Bench:
    """The published size on the meta device, which has shapes and dtypes and nothing else."""
    device = RankDevice(torch.device("meta"), torch.bfloat16, is_accelerator=False)
    return Bench(FULL, device, CPU, Budget(3600.0), rounds=1)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("name", [ENGINE, GROUPED, HOISTED])
def test_a_way_denoises_as_the_stock_pipeline_does(bench: Bench, name: str, rows: int) -> None:
    inputs = make_inputs(SMALL, rows, bench.device)
    found = {}
    for arm in (STOCK, name):
        way, watch = bench.way(arm), Stopwatch(bench.device)
        found[arm] = (way.forward(inputs), way.denoise(inputs, 3, watch))
        seconds = watch.seconds()
        # Between the ends of three steps.
        assert len(seconds) == 2
        assert min(seconds) > 0
    (output, latents), (stock_output, stock_latents) = found[name], found[STOCK]
    assert output.shape == (rows, 16, 16, 16)
    assert stock_output.std() > 0.1
    torch.testing.assert_close(output, stock_output, atol=1e-4, rtol=1e-4)
    assert not torch.equal(latents, inputs.latents)
    torch.testing.assert_close(latents, stock_latents, atol=1e-3, rtol=1e-3)


def test_fp8_loses_a_little_and_not_everything(new_bench) -> None:
    bench = new_bench(torch.bfloat16)
    inputs = make_inputs(SMALL, 2, bench.device)
    lossy, stock = (bench.way(name).forward(inputs) for name in (FP8, STOCK))
    relative = ((lossy - stock).norm() / stock.norm()).item()
    assert 0.005 < relative < 0.2
    torch.compiler.reset()
    # Traced whole; a graph that breaks raises.
    compiled = bench.way(FP8_COMPILED).forward(inputs)
    torch.compiler.reset()
    assert torch.equal(compiled, lossy)


def test_reused_steps_are_near_those_that_are_computed(bench: Bench) -> None:
    inputs = make_inputs(SMALL, 2, bench.device)
    cached, whole = bench.engine(STEP_CACHE), bench.engine(HOISTED)
    assert cached.network is whole.network
    watch = Stopwatch(bench.device)
    latents = cached.denoise(inputs, 20, watch)
    assert 3 < cached.reused_steps < 17
    assert len(watch.seconds()) == 19
    likeness = psnr(latents, whole.denoise(inputs, 20, watch))
    assert 20 < likeness < 80
    assert whole.reused_steps == 0


@pytest.mark.parametrize("name", [GROUPED, HOISTED, FP8])
def test_the_published_size_can_be_run_where_shapes_and_dtypes_are_checked(
    full: Bench, name: str
) -> None:
    """Stock would ask for numbers."""
    outputs = full.engine(name).call(make_inputs(FULL, 2, full.device))()
    assert [(tuple(one.shape), one.dtype) for one in outputs] == [
        ((1, 16, 128, 128), torch.bfloat16)
    ] * 2


@pytest.mark.parametrize("rows", [1, 2])
def test_operations_are_those_that_torch_counts(bench: Bench, rows: int) -> None:
    call = bench.way(STOCK).call(make_inputs(SMALL, rows, bench.device))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    assert counter.get_total_flops() == operations.forward(SMALL.network, 64, rows)


def test_operations_of_parts_are_those_that_torch_counts(bench: Bench) -> None:
    block = bench.way(STOCK).transformer.single_stream_blocks[0].block
    tokens = torch.randn(2, 9, 128)
    rotary = bench.way(STOCK).transformer.pe_embedder(torch.zeros(1, 9, 3))
    config = SMALL.network
    for call, expected in [
        (lambda: block.ff_i(tokens), operations.feed_forward(config, 18)),
        (lambda: block.attn1(tokens, None, None, rotary), operations.attention(config, 2, 9)),
    ]:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            call()
        assert counter.get_total_flops() == expected


def test_a_forward_of_the_published_size_takes_78_trillion_operations() -> None:
    assert operations.forward(HIDREAM, FULL.image_tokens, 1) == pytest.approx(77.79e12, rel=1e-4)
    tokens = FULL.image_tokens + 3 * TEXT_TOKENS
    assert operations.feed_forward(HIDREAM, 2 * tokens) == pytest.approx(2.40e12, rel=2e-3)


def test_decoding_at_the_published_size_takes_10_trillion_operations(full: Bench) -> None:
    assert decoding_operations(full) == pytest.approx(10.47e12, rel=0.01)


@pytest.mark.parametrize(
    ("name", "waits"), [(STOCK, STOCK_WAITS), (ENGINE, STOCK_WAITS), (GROUPED, 0), (HOISTED, 0)]
)
def test_what_would_wait_for_a_card_is_counted(bench: Bench, name: str, waits: int) -> None:
    call = bench.way(name).call(make_inputs(SMALL, 2, bench.device))
    assert count_waits(bench.device.torch_device, call) == waits


def test_likeness_is_infinite_for_what_is_equal_and_counted_from_the_range() -> None:
    one = torch.tensor([0.0, 10.0])
    assert psnr(one, one) == float("inf")
    assert psnr(one + 1, one) == pytest.approx(20.0)
