"""Weights that wait in the host's memory are on the device for a call, and only then."""

import pytest
import torch
from torch import Tensor, nn

from hidream_server.model.offloading import OffloadedModule


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.tied = self.linear.weight
        self.register_buffer("offset", torch.ones(2))
        self.seen: set[str] = set()

    def forward(self, tokens: Tensor, *, fail: bool = False) -> Tensor:
        self.seen |= {tensor.device.type for tensor in (self.tied, self.linear.bias, self.offset)}
        if fail:
            raise RuntimeError("out of memory")
        return self.linear(tokens) + self.offset


# The "meta" device has shapes and no numbers, and is on every machine.
META = torch.device("meta")


def test_the_weights_are_on_the_device_during_a_call_and_at_home_after_it():
    network = Network()
    home = [tensor.data_ptr() for tensor in network.state_dict().values()]
    result = OffloadedModule(network, META)(torch.zeros(1, 3, device=META))
    assert (network.seen, result.device) == ({"meta"}, META)
    assert [tensor.data_ptr() for tensor in network.state_dict().values()] == home
    assert network.tied is network.linear.weight


def test_a_call_that_fails_leaves_the_weights_at_home():
    network = Network()
    with pytest.raises(RuntimeError, match="out of memory"):
        OffloadedModule(network, META)(torch.zeros(1, 3, device=META), fail=True)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}


def test_the_result_is_that_of_the_module():
    network, tokens = Network(), torch.randn(1, 3)
    visited = OffloadedModule(network, torch.device("cpu"))(tokens)
    torch.testing.assert_close(visited, network(tokens), rtol=0, atol=0)
