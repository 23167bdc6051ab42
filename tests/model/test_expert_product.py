"""Every way to multiply tokens with their experts' matrices against the loop.

The NPU's is a call of an operator that is not on this machine; a recorder of the documented
signature takes its place and computes by the definition.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from hidream_server.model.expert_product import EXPERT_PRODUCTS, loop

_SIGNATURE = (
    "npu_grouped_matmul(Tensor[] x, Tensor[] weight, *, Tensor[]? bias=None,"
    " Tensor? group_list=None, int? split_item=0, int? group_type=None,"
    " int? group_list_type=0) -> Tensor[]"
)


@pytest.fixture(scope="module", autouse=True)
def npu_calls() -> Iterator[list[Tensor]]:
    """Stand for torch_npu; yields the group list of each call."""
    calls: list[Tensor] = []

    def record(
        x: list[Tensor],
        weight: list[Tensor],
        bias: list[Tensor] | None = None,
        group_list: Tensor | None = None,
        split_item: int = 0,
        group_type: int | None = None,
        group_list_type: int = 0,
    ) -> list[Tensor]:
        # One x and one weight for all groups (2), which are of rows (0); the list says where each
        # ends (0), in int64.
        assert (split_item, group_type, group_list_type) == (2, 0, 0)
        assert (len(x), len(weight), bias) == (1, 1, None)
        assert group_list is not None
        assert group_list.dtype == torch.int64
        calls.append(group_list)
        group = torch.searchsorted(group_list, torch.arange(len(x[0])), right=True)
        # Rows after the last end are nobody's.
        matrices = weight[0][group.clamp(max=len(group_list) - 1)]
        return [torch.einsum("mk,mkn->mn", x[0], matrices)]

    library = torch.library.Library("npu", "FRAGMENT")
    library.define(_SIGNATURE)
    library.impl("npu_grouped_matmul", record, "CompositeExplicitAutograd")
    yield calls
    library._destroy()


@pytest.mark.parametrize("product", EXPERT_PRODUCTS.values(), ids=EXPERT_PRODUCTS)
@pytest.mark.parametrize("counts", [(3, 5, 0, 8), (0, 0, 0, 16), (16, 0, 0, 0), (4, 4, 4, 2)])
def test_every_product_is_that_of_the_loop(product: Callable, counts: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(16, 8, generator=generator)
    matrices = torch.randn(4, 8, 12, generator=generator)
    ends = torch.tensor(counts).cumsum(0).to(torch.int32)
    mine = int(ends[-1])
    result = product(tokens, matrices, ends)
    assert result.shape == (16, 12)
    torch.testing.assert_close(result[:mine], loop(tokens, matrices, ends)[:mine])


def test_the_npu_is_asked_once_for_all_experts(npu_calls: list[Tensor]) -> None:
    npu_calls.clear()
    ends = torch.tensor([1, 2], dtype=torch.int32)
    EXPERT_PRODUCTS["npu_grouped_matmul"](torch.ones(2, 3), torch.ones(2, 3, 4), ends)
    assert len(npu_calls) == 1
