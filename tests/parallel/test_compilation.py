"""Blocks are compiled whole, without a compiler of C++: what is traced is run as it is."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.network import Network
from hidream_server.parallel.place import alone

FOLDER = DEMO_MODEL_PATH / "transformer"
#: By class, exact or in fp8, and number of rows: one, two, more.
GRAPHS = 2 * 2 * 3


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()


def network(dtype: torch.dtype, mixture: str) -> Network:
    files = FOLDER.glob("*.safetensors")
    return load_network(FOLDER, files, alone(), torch.device("cpu"), dtype, mixture)


@torch.inference_mode()
def step(
    network: Network, dtype: torch.dtype, rows: int, height: int, width: int, fp8: bool = False
) -> Tensor:
    generator = torch.Generator().manual_seed(rows)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    text = [randn(*shape).to(dtype) for shape in ((rows, 8, 96), (6, rows, 8, 96), (rows, 128))]
    latents = list(randn(rows, 16, height, width).split(1))
    return torch.cat(network(latents, torch.full((rows,), 500.0), *text, fp8=fp8))


#: Torch does not trace its grouped product in 32 bit.
@pytest.mark.parametrize(
    ("dtype", "mixture"), [(torch.bfloat16, "grouped_mm"), (torch.float32, "loop")]
)
def test_no_block_is_broken_into_graphs_and_all_of_a_class_share_one(dtype, mixture) -> None:
    plain, compiled = (network(dtype, mixture) for _ in range(2))
    for each in (plain, compiled):
        each.add_fp8()
    compiled.compile_blocks("eager")
    counted = torch._dynamo.utils.counters["stats"]
    graphs = [0]
    for fp8 in (False, True):
        for shape in [(2, 8, 8), (2, 4, 12), (1, 8, 8), (1, 4, 4), (4, 8, 8), (6, 12, 12)]:
            expected = step(plain, dtype, *shape, fp8=fp8)
            assert torch.equal(step(compiled, dtype, *shape, fp8=fp8), expected)
        graphs.append(counted["unique_graphs"])
    assert graphs[0] < graphs[1] < graphs[2] <= GRAPHS
