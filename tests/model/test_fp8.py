"""Products in fp8 against the same rounding by hand; and what is left alone."""

from pathlib import Path

import pytest
import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor, nn

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.devices.cpu import CPU
from hidream_server.model.fp8 import Fp8Experts, Fp8Linear, in_fp8, quantise
from hidream_server.model.mixture import MIXTURES
from hidream_server.model.moe import RoutedExperts
from hidream_server.parallel.place import alone
from hidream_server.parallel.sharding import shard

WIDTH, HIDDEN = 64, 48


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def rounded(values: Tensor) -> Tensor:
    """Round to three digits of mantissa, row by row, so that the largest is 448."""
    rows = [
        (row * (448 / row.abs().max())).to(torch.float8_e4m3fn).float() / (448 / row.abs().max())
        for row in values.reshape(-1, values.shape[-1])
    ]
    return torch.stack(rows).view_as(values)


def test_values_are_as_near_as_three_digits_of_mantissa_can_be() -> None:
    values = noise(5, 7, 64) * 1000
    small, scale = quantise(values)
    assert scale.shape == (5, 7, 1)
    error = (small.float() * scale - values).abs()
    # Half of the last binary digit; what is next to nothing in its row is rounded to steps.
    assert (error <= values.abs() * 2**-4 + scale * 2**-9).all()
    assert torch.isfinite(small.float()).all()


def test_a_row_of_zeros_stays_one() -> None:
    small, scale = quantise(torch.zeros(2, 4))
    assert torch.equal(small.float() * scale, torch.zeros(2, 4))


@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_linear_multiplies_what_is_rounded(bias: bool) -> None:
    linear, values = nn.Linear(WIDTH, HIDDEN, bias=bias), noise(2, 5, WIDTH)
    found = Fp8Linear(linear)
    expected = rounded(values) @ rounded(linear.weight).t()
    torch.testing.assert_close(found.product(values), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found(values), expected + (linear.bias if bias else 0))


@torch.inference_mode()
def test_experts_multiply_what_is_rounded_and_leave_those_of_others_out() -> None:
    experts = RoutedExperts(1, 2, WIDTH, HIDDEN, MIXTURES["loop"])
    for matrices in (experts.w13, experts.w2):
        matrices.copy_(noise(*matrices.shape) / 8)
    tokens = noise(6, WIDTH)
    ids = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0], [2, 1], [0, 2]])
    weights = noise(6, 2).abs()
    expected = torch.zeros(6, WIDTH)
    for row, (chosen, shares) in enumerate(zip(ids, weights, strict=True)):
        for expert, share in zip(chosen.tolist(), shares, strict=True):
            if expert in (1, 2):
                gate, up = (
                    (rounded(tokens[row : row + 1]) @ rounded(half).t())
                    for half in experts.w13[expert - 1].chunk(2)
                )
                inside = rounded(nn.functional.silu(gate) * up)
                expected[row] += share * (inside @ rounded(experts.w2[expert - 1]).t())[0]
    found = Fp8Experts(experts)(tokens, ids, weights)
    # The inside is rounded anew: what lies between two numbers may fall to either.
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_products_have_the_shapes_that_cards_want() -> None:
    """On the meta device, whose operators check as a card's do."""
    where = {"device": torch.device("meta"), "dtype": torch.bfloat16}
    out = Fp8Linear(nn.Linear(64, 32, **where))(torch.empty(2, 5, 64, **where))
    assert (out.shape, out.dtype) == ((2, 5, 32), torch.bfloat16)
    with torch.device("meta"):
        experts = Fp8Experts(RoutedExperts(0, 4, 64, 48, MIXTURES["grouped_mm"]).to(torch.bfloat16))
    chosen = torch.empty(10, 2, device="meta", dtype=torch.int64)
    out = experts(torch.empty(10, 64, **where), chosen, torch.empty(10, 2, **where))
    assert (out.shape, out.dtype) == ((10, 64), torch.bfloat16)


@pytest.fixture
def transformer() -> HiDreamImageTransformer2DModel:
    path = Path(DEMO_MODEL_PATH) / "transformer"
    config = HiDreamImageTransformer2DModel.load_config(path, local_files_only=True)
    with torch.device("meta"):
        transformer = HiDreamImageTransformer2DModel.from_config(config).eval()
    shard(transformer, alone(), MIXTURES[CPU.mixture])
    return transformer.to_empty(device="cpu")


def test_it_has_its_own_products_and_all_else_in_common(transformer) -> None:
    before = dict(transformer.named_modules())
    lossy = in_fp8(transformer)
    assert dict(transformer.named_modules()) == before
    parameters, copies = dict(transformer.named_parameters()), dict(lossy.named_buffers())
    shared = dict(lossy.named_parameters())
    assert all(shared[name] is parameters[name] for name in shared)
    for name in parameters.keys() - shared.keys():
        assert copies[name].dtype == torch.float8_e4m3fn
        assert copies[name].shape == parameters[name].shape
    rounded_away = {name.split(".")[-2] for name in parameters.keys() - shared.keys()}
    assert rounded_away >= {"experts", "to_q", "to_k_t", "to_out", "w1", "w2", "w3"}
    assert not any("gate" in name or "adaLN" in name for name in copies)
