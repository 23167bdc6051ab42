"""Places on hand: every client has one before any has two, and some are kept for the urgent."""

from dataclasses import replace

from hidream_server.scheduling.places import next_place, open_places
from tests.scheduling.tasks import task


def test_short_tasks_are_taken_before_long_ones_that_came_a_little_earlier():
    long, short = task(0, 50, arrived_s=0.0), task(1, 5, arrived_s=1.0)
    assert next_place([long, short], [], places=8) is short


def test_a_client_without_a_place_comes_before_one_that_has_some():
    mine = [task(n, 10, client="a") for n in range(3)]
    other = task(3, 50, client="b")
    assert next_place([*mine[1:], other], mine[:1], places=8) is other


def test_a_deadline_comes_first_and_the_earlier_of_two():
    plain = task(0, 1)
    late, soon = (
        replace(task(n, 50), deadline_s=deadline) for n, deadline in ((1, 99.0), (2, 50.0))
    )
    assert next_place([plain, late, soon], [], places=8) is soon
    assert next_place([plain, late], [soon], places=8) is late


def test_the_last_places_are_kept_for_what_passes_all_on_hand_or_has_none_there():
    assert open_places(8) == 6
    on_hand = [task(n, 10, client="a") for n in range(6)]
    later, sooner = task(6, 20, client="a"), task(7, 1, client="a")
    urgent = replace(task(8, 90, client="a"), deadline_s=1e6)
    stranger = task(9, 90, client="b")
    assert next_place([later], on_hand, places=8) is None
    for one in (sooner, urgent, stranger):
        assert next_place([later, one], on_hand, places=8) is one


def test_where_all_places_are_taken_nobody_is():
    on_hand = [task(n, 10) for n in range(8)]
    assert next_place([replace(task(8, 1), deadline_s=0.0)], on_hand, places=8) is None


def test_a_group_with_few_places_keeps_none():
    assert [open_places(n) for n in (1, 2, 3, 4)] == [1, 2, 3, 3]
