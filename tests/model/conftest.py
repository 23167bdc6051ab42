"""Stands for torch_npu, which is not on this machine."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, library

_SIGNATURE = (
    "npu_grouped_matmul(Tensor[] x, Tensor[] weight, *, Tensor[]? bias=None,"
    " Tensor? group_list=None, int? split_item=0, int? group_type=None,"
    " int? group_list_type=0) -> Tensor[]"
)


@pytest.fixture(scope="module")
def npu_calls() -> Iterator[list[Tensor]]:
    """A recorder of the operator's documented signature, which computes by the definition.

    Yields the group list of each call.
    """
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

    operators = library.Library("npu", "FRAGMENT")
    operators.define(_SIGNATURE)
    operators.impl("npu_grouped_matmul", record, "CompositeExplicitAutograd")
    yield calls
    operators._destroy()
