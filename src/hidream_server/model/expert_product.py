"""The product of sorted tokens with the matrix of each one's expert, once per kind of device.

Every implementation computes the same; the loop is the one that the others are held against.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

#: tokens [M, K] sorted by expert, matrices [E, K, N], ends [E] (int32: where each expert's tokens
#: end) → [M, N]. What comes after the last end belongs to nobody; its result is unspecified.
ExpertProduct = Callable[[Tensor, Tensor, Tensor], Tensor]


def loop(tokens: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Multiply expert by expert; waits for the device to learn the ends."""
    result = tokens.new_zeros(tokens.shape[0], matrices.shape[2])
    start = 0
    for matrix, end in zip(matrices, ends.tolist(), strict=True):
        result[start:end] = tokens[start:end] @ matrix
        start = end
    return result


def grouped_mm(tokens: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Multiply in one call of torch's own grouped product."""
    return F.grouped_mm(tokens, matrices, offs=ends)


def npu_grouped_matmul(tokens: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Multiply in one call of the NPU's; it is part of torch_npu."""
    return torch.ops.npu.npu_grouped_matmul(
        [tokens],
        [matrices],
        group_list=ends.to(torch.int64),
        split_item=2,
        group_type=0,
        group_list_type=0,
    )[0]


#: By the name that a kind of device gives.
EXPERT_PRODUCTS: dict[str, ExpertProduct] = {
    "grouped_mm": grouped_mm,
    "npu_grouped_matmul": npu_grouped_matmul,
    "loop": loop,
}
