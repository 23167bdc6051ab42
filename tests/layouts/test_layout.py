"""Layouts are read as they are written, and every rank has one place."""

import pytest

from hidream_server.errors import LayoutUnavailableError
from hidream_server.layouts.layout import Layout


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("tp1", Layout()),
        ("tp4-ep2", Layout(tp=4, ep=2)),
        ("cfg2-sp4", Layout(cfg=2, sp=4)),
        ("ep2-tp4", Layout(tp=4, ep=2)),
        (" CFG2-TP4 ", Layout(cfg=2, tp=4)),
    ],
)
def test_a_layout_is_read(text, layout):
    assert Layout.parse(text) == layout
    assert Layout.parse(str(layout)) == layout


@pytest.mark.parametrize(
    "text", ["", "tp", "tp0", "4", "tp2-tp4", "tp2_ep2", "dp2", "tp-2", "tp100"]
)
def test_what_is_no_layout_is_refused_with_an_example(text):
    with pytest.raises(LayoutUnavailableError, match="cfg2-sp4"):
        Layout.parse(text)


def test_every_rank_has_a_place_of_its_own():
    layout = Layout(cfg=2, sp=2, ep=2, tp=2)
    places = [layout.coordinates(rank) for rank in range(layout.ranks)]
    assert len(set(places)) == layout.ranks == 16


def test_tensor_parallel_ranks_are_neighbours():
    assert Layout(tp=4, ep=2).groups("tp") == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert Layout(tp=4, ep=2).groups("ep") == [[0, 4], [1, 5], [2, 6], [3, 7]]


@pytest.mark.parametrize("axes", [("tp",), ("tp", "ep"), ("cfg",), ("cfg", "sp", "tp", "ep")])
def test_groups_hold_every_rank_once(axes):
    layout = Layout(cfg=2, sp=2, ep=2, tp=2)
    groups = layout.groups(*axes)
    assert sorted(rank for group in groups for rank in group) == list(range(16))
    assert {len(group) for group in groups} == {2 ** len(axes)}
