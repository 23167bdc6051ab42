"""Down after failures, up after a while, never off either end."""

import pytest

from hidream_server.engine.layout_ladder import LayoutLadder
from hidream_server.layouts.layout import Layout
from tests.support import Clock

RUNGS = [Layout(tp=4), Layout(tp=2), Layout()]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ladder(clock: Clock) -> LayoutLadder:
    return LayoutLadder(RUNGS, tries=2, cool_down_s=60, clock=clock)


@pytest.fixture
def fallen(ladder: LayoutLadder) -> LayoutLadder:
    """Return the ladder after its first layout was given up."""
    ladder.failed()
    ladder.failed()
    return ladder


def test_the_same_layout_is_tried_again_before_a_smaller_one(ladder: LayoutLadder) -> None:
    assert not ladder.failed()
    assert ladder.layout == Layout(tp=4)
    assert ladder.failed()
    assert ladder.layout == Layout(tp=2)
    assert ladder.degraded


def test_a_finished_task_wipes_the_slate(ladder: LayoutLadder) -> None:
    for _ in range(5):
        assert not ladder.failed()
        ladder.proved()
    assert not ladder.degraded


def test_one_device_is_never_given_up(ladder: LayoutLadder) -> None:
    for _ in range(20):
        ladder.failed()
    assert ladder.layout == Layout()


def test_where_even_one_device_fails_larger_layouts_get_their_turn_again(
    ladder: LayoutLadder, clock: Clock
) -> None:
    for _ in range(4):
        ladder.failed()
    assert ladder.layout == Layout()
    clock.now = 60
    assert not ladder.failed()
    assert ladder.layout == Layout()
    assert not ladder.failed()
    assert ladder.layout == Layout(tp=2)
    assert ladder.failed()
    assert ladder.layout == Layout()


def test_it_climbs_one_rung_at_a_time_after_the_cool_down(
    ladder: LayoutLadder, clock: Clock
) -> None:
    for _ in range(4):
        ladder.failed()
    assert not ladder.may_climb
    clock.now = 60
    assert ladder.may_climb
    ladder.climb()
    assert ladder.layout == Layout(tp=2)
    assert not ladder.may_climb
    clock.now = 120
    ladder.climb()
    assert not ladder.degraded
    clock.now = 1e6
    assert not ladder.may_climb


def test_a_climb_that_fails_once_goes_back_and_waits_twice_as_long(
    fallen: LayoutLadder, clock: Clock
) -> None:
    for wait in (60, 120, 240):
        clock.now += wait - 1
        assert not fallen.may_climb
        clock.now += 1
        assert fallen.may_climb
        fallen.climb()
        assert fallen.failed()
        assert fallen.layout == Layout(tp=2)


def test_a_climb_that_proves_itself_forgets_the_longer_waits(
    fallen: LayoutLadder, clock: Clock
) -> None:
    clock.now = 60
    fallen.climb()
    fallen.failed()
    clock.now = 180
    fallen.climb()
    fallen.proved()
    fallen.failed()
    fallen.failed()
    clock.now = 240
    assert fallen.may_climb


def test_a_climb_that_has_proved_itself_has_all_its_tries_again(
    fallen: LayoutLadder, clock: Clock
) -> None:
    clock.now = 60
    fallen.climb()
    fallen.proved()
    assert not fallen.failed()
    assert fallen.layout == Layout(tp=4)


def test_a_busy_server_climbs_at_last(fallen: LayoutLadder, clock: Clock) -> None:
    clock.now = 119
    assert fallen.may_climb
    assert not fallen.must_climb
    clock.now = 120
    assert fallen.must_climb


def test_a_task_that_lost_two_groups_is_tried_on_one_device(clock: Clock) -> None:
    ladder = LayoutLadder([Layout(tp=4), Layout(tp=2), Layout()], 2, 60, clock)
    assert not ladder.failed()
    assert ladder.failed(to_the_last=True)
    assert ladder.layout == Layout()
    assert not ladder.failed(to_the_last=True)
    ladder.pardon()
    assert ladder.layout == Layout(tp=4)
