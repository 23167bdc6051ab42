"""A step never waits for the device: on one that has shapes and no numbers it runs to its end."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_hidream_image import MOEFeedForwardSwiGLU
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.layouts.layout import Layout
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.network import Network
from hidream_server.parallel.place import Place, alone
from tests.parallel.thread_ranks import run_ranks

FOLDER: Path = DEMO_MODEL_PATH / "transformer"
META = torch.device("meta")
#: Operators whose result, or its size, the host must learn from the device.
ASKING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Transfers(TorchDispatchMode):
    """Notes what asks the device for a value, and counts what is sent there.

    Nothing need be noted of copies back: there are no numbers to copy, so that torch raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.sent = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if ASKING & set(func.tags):
            self.asked.append(str(func))
        result = func(*args, **(kwargs or {}))
        self.sent += _is_on("cpu", *args[:1]) and _is_on("meta", result)
        return result


def _is_on(device: str, *values: object) -> bool:
    return any(isinstance(value, Tensor) and value.device.type == device for value in values)


def network(place: Place, mixture: str = "grouped_mm") -> Network:
    files = FOLDER.glob("*.safetensors")
    return load_network(FOLDER, files, place, META, torch.bfloat16, mixture)


@torch.inference_mode()
def step(network: Network, sizes: list[tuple[int, int]]) -> Transfers:
    rows = len(sizes)
    with META:
        prompt = (torch.empty(rows, 128, 96), torch.empty(6, rows, 128, 96), torch.empty(rows, 128))
    text = [tensor.to(torch.bfloat16) for tensor in prompt]
    latents = [torch.zeros(1, 16, *size) for size in sizes]
    network(latents, torch.full((rows,), 500.0), *text)
    with Transfers() as transfers:
        network(latents, torch.full((rows,), 480.0), *text)
    return transfers


@pytest.mark.parametrize("layout", ["tp1", "cfg2", "sp2", "tp2-ep2"])
@pytest.mark.parametrize("sizes", [[(32, 32)] * 2, [(24, 32)] * 2, [(24, 32), (32, 32)]], ids=str)
def test_a_step_asks_the_device_nothing(layout: str, sizes: list[tuple[int, int]]) -> None:
    for transfers in run_ranks(Layout.parse(layout), lambda place: step(network(place), sizes)):
        assert transfers.asked == []
        # Tokens and timesteps; masks and positions are there from the first step.
        assert transfers.sent == 2


def test_a_loop_over_the_experts_would_be_seen() -> None:
    with pytest.raises(NotImplementedError, match="nonzero"):
        step(network(alone(), "loop"), [(32, 32)])


def test_a_copy_back_would_be_seen() -> None:
    with pytest.raises(NotImplementedError, match="no data"), Transfers():
        torch.empty(1, device=META).cpu()


def test_diffusers_own_feed_forward_would_be_seen() -> None:
    with META:
        stock = MOEFeedForwardSwiGLU(96, 384, 4, 2).eval()
        tokens = torch.empty(1, 64, 96)
    with Transfers() as transfers, suppress(NotImplementedError):
        stock(tokens)
    assert transfers.asked == ["aten.bincount.default"]
