"""Every way to multiply tokens with their experts' matrices against a loop over the experts."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hidream_server.model.expert_product import ExpertProduct, grouped_mm, npu_grouped_matmul

pytestmark = pytest.mark.usefixtures("npu_calls")


@pytest.mark.parametrize("product", [grouped_mm, npu_grouped_matmul])
@pytest.mark.parametrize("counts", [(3, 5, 0, 8), (0, 0, 0, 16), (16, 0, 0, 0), (4, 4, 4, 2)])
def test_a_product_is_that_of_a_loop(product: ExpertProduct, counts: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(16, 8, generator=generator)
    matrices = torch.randn(4, 8, 12, generator=generator)
    ends = torch.tensor(counts).cumsum(0).to(torch.int32)
    result = product(tokens, matrices, ends)
    assert result.shape == (16, 12)
    for matrix, (start, stop) in zip(matrices, pairwise([0, *ends.tolist()]), strict=True):
        torch.testing.assert_close(result[start:stop], tokens[start:stop] @ matrix)


def test_the_npu_is_asked_once_for_all_experts(npu_calls: list[Tensor]) -> None:
    npu_calls.clear()
    npu_grouped_matmul(torch.ones(2, 3), torch.ones(2, 3, 4), torch.tensor([1, 2]).int())
    assert len(npu_calls) == 1
