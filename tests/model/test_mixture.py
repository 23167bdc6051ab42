"""Every mixture of experts against diffusers' own sparse feed-forward."""

import pytest
import torch
from diffusers.models.transformers.transformer_hidream_image import MOEFeedForwardSwiGLU
from torch import Tensor, nn

from hidream_server.model.mixture import MIXTURES
from hidream_server.model.moe import RoutedExperts, SparseFeedForward

pytestmark = pytest.mark.usefixtures("npu_calls")

WIDTH = 24


@pytest.fixture
def stock() -> MOEFeedForwardSwiGLU:
    torch.manual_seed(0)
    return MOEFeedForwardSwiGLU(WIDTH, 4 * WIDTH, 4, 2).eval()


def held(stock: MOEFeedForwardSwiGLU, first: int, count: int, mixture: str) -> RoutedExperts:
    """Return some of the experts."""
    hidden = stock.experts[0].w1.out_features
    experts = RoutedExperts(first, count, WIDTH, hidden, MIXTURES[mixture])
    for number in range(first, first + count):
        for name in ("w1", "w2", "w3"):
            experts.matrix(number, name).copy_(getattr(stock.experts[number], name).weight)
    return experts


def ours(stock: MOEFeedForwardSwiGLU, mixture: str) -> nn.Module:
    return SparseFeedForward(stock.gate, held(stock, 0, 4, mixture), stock.shared_experts)


def tokens(rows: int, length: int) -> Tensor:
    return torch.randn(rows, length, WIDTH, generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize(("rows", "length"), [(1, 1), (1, 64), (2, 100), (8, 33)])
@torch.inference_mode()
def test_a_mixture_is_diffusers_own(stock, mixture: str, rows: int, length: int) -> None:
    here = tokens(rows, length)
    torch.testing.assert_close(ours(stock, mixture)(here), stock(here))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_loop_gives_the_same_bits(stock, dtype: torch.dtype) -> None:
    here = tokens(2, 100).to(dtype)
    assert torch.equal(ours(stock, "loop").to(dtype)(here), stock.to(dtype)(here))


@pytest.mark.parametrize("mixture", MIXTURES)
@torch.inference_mode()
def test_what_parts_of_the_experts_give_adds_up(stock, mixture: str) -> None:
    here = tokens(1, 50)
    ids, weights, _ = stock.gate(here)
    shares = [held(stock, first, count, mixture) for first, count in ((0, 1), (1, 3))]
    total = sum(share(here[0], ids, weights) for share in shares)
    torch.testing.assert_close(total + stock.shared_experts(here)[0], stock(here)[0])


@pytest.mark.parametrize("mixture", MIXTURES)
@torch.inference_mode()
def test_an_expert_that_nobody_chose_gives_nothing(stock, mixture: str) -> None:
    ids, weights = torch.tensor([[0, 3], [3, 0]]), torch.ones(2, 2)
    experts = held(stock, 1, 2, mixture)
    assert torch.equal(experts(tokens(1, 2)[0], ids, weights), torch.zeros(2, WIDTH))
