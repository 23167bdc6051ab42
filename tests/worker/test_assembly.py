"""What the ranks of a group agree on when they are put together."""

import pytest
import torch

from hidream_server.layouts.layout import Layout
from hidream_server.parallel.place import Place, alone
from hidream_server.worker.assembly import agree
from tests.parallel.thread_ranks import run_ranks

CPU, CARD = torch.device("cpu"), torch.device("meta")


@pytest.mark.parametrize("found", [CPU, CARD])
def test_one_rank_has_found_out_for_all(found: torch.device) -> None:
    assert agree(found, alone().world) == found


@pytest.mark.parametrize("able", [{0, 1}, {0}, {1}, set()])
def test_latents_are_on_the_devices_where_every_rank_can_sample(able: set[int]) -> None:
    def work(place: Place) -> torch.device:
        return agree(CARD if place.rank in able else CPU, place.world)

    expected = CARD if len(able) == 2 else CPU
    assert run_ranks(Layout(tp=2), work) == [expected] * 2
