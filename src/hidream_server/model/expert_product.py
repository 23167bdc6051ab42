"""The product of sorted tokens with the matrix of each one's expert, once per kind of accelerator.

In one call, and without the host learning how many tokens each expert has.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

#: tokens [M, K] sorted by expert, matrices [E, K, N], ends [E] (int32: where each expert's tokens
#: end) → [M, N]. What comes after the last end belongs to nobody; its result is unspecified.
ExpertProduct = Callable[[Tensor, Tensor, Tensor], Tensor]


def grouped_mm(tokens: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Multiply by torch's own grouped product."""
    return F.grouped_mm(tokens, matrices, offs=ends)


def npu_grouped_matmul(tokens: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Multiply by the NPU's; it is part of torch_npu."""
    return torch.ops.npu.npu_grouped_matmul(
        [tokens],
        [matrices],
        group_list=ends.to(torch.int64),
        split_item=2,
        group_type=0,
        group_list_type=0,
    )[0]
