"""What is chosen for so many cards, and what is refused."""

import pytest

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import LayoutUnavailableError
from hidream_server.layouts.choice import (
    check,
    choose_layout,
    documented,
    fastest,
    ladder,
    possible,
)
from hidream_server.layouts.cost import Picture, step_cost
from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.reading import describe
from hidream_server.settings import Settings
from tests.layouts.configs import HIDREAM

GUIDED = Picture(image_tokens=4096, text_tokens=128, rows=2)
UNGUIDED = Picture(image_tokens=4096, text_tokens=128, rows=1)


@pytest.mark.parametrize(
    ("cards", "name"),
    [(1, "tp1"), (2, "tp2"), (3, "tp2"), (4, "tp4"), (5, "tp4"), (7, "tp4"), (8, "tp4-ep2")],
)
def test_the_documented_table(cards, name):
    assert str(documented(HIDREAM, cards)) == name


@pytest.mark.parametrize(
    ("cards", "guided", "unguided"),
    [(1, "tp1", "tp1"), (2, "cfg2", "sp2"), (4, "cfg2-sp2", "sp4"), (8, "cfg2-sp4", "sp4-tp2")],
)
def test_the_fastest_layout(cards, guided, unguided):
    assert str(fastest(HIDREAM, possible(HIDREAM, cards), GUIDED)) == guided
    assert str(fastest(HIDREAM, possible(HIDREAM, cards), UNGUIDED)) == unguided


def test_fast_takes_the_fastest_layout_that_fits():
    model, settings = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH), Settings(layout="fast")
    assert choose_layout(settings, model, 2, lambda _: True) == Layout(cfg=2)
    assert choose_layout(settings, model, 2, lambda layout: layout.tp > 1) == Layout(tp=2)
    assert choose_layout(settings, model, 2, lambda _: False) == Layout(cfg=2)


@pytest.mark.parametrize("name", ["tp8", "tp3", "ep3", "cfg3", "sp3", "tp4-ep4"])
def test_what_cannot_be_is_refused_with_what_can(name):
    with pytest.raises(LayoutUnavailableError, match=r"Possible are: tp1, .*tp4-ep2"):
        check(Layout.parse(name), HIDREAM, 8)


@pytest.mark.parametrize("name", ["cfg2-sp4", "tp4-ep2", "cfg2-tp4", "sp8", "cfg2-sp2-tp2", "tp5"])
def test_what_can_be_is_accepted(name):
    check(Layout.parse(name), HIDREAM, 8)
    assert Layout.parse(name) in possible(HIDREAM, 8)


def test_the_ladder_ends_on_one_card():
    names = [str(layout) for layout in ladder(Layout(tp=4, ep=2), HIDREAM, fits=lambda _: True)]
    assert names == ["tp4-ep2", "tp4", "tp2", "tp1"]
    assert ladder(Layout(), HIDREAM, fits=lambda _: True) == [Layout()]


def test_the_ladder_has_no_rung_without_room():
    rungs = ladder(Layout(tp=4, ep=2), HIDREAM, fits=lambda layout: layout.tp > 1)
    assert [str(layout) for layout in rungs] == ["tp4-ep2", "tp4", "tp2"]


@pytest.mark.parametrize(
    ("name", "teraflops", "gigabytes"),
    [
        ("tp1", 155.3, 0.0),
        ("tp4", 38.8, 6.61),
        ("tp4-ep2", 24.7, 7.16),
        ("cfg2-tp4", 19.4, 3.30),
        ("cfg2-sp4", 19.4, 0.83),
        ("sp8", 19.4, 3.85),
    ],
)
def test_costs_of_a_guided_step_at_1024(name, teraflops, gigabytes):
    cost = step_cost(HIDREAM, Layout.parse(name), GUIDED)
    assert cost.operations / 1e12 == pytest.approx(teraflops, abs=0.06)
    assert cost.sent_bytes / 1e9 == pytest.approx(gigabytes, abs=0.006)
