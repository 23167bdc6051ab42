"""As many rows as make a row cheaper, and fit."""

from math import inf

import pytest

from hidream_server.scheduling.widths import Widths, profile

#: Small ones gain up to four rows, large ones nothing.
PROFILE = {
    64: {1: 1.0, 2: 1.4, 4: 2.4, 8: 4.7},
    256: {1: 4.0, 2: 7.8},
}


def forwards(seconds: dict[int, float]):
    """Return a measurement that knows those, and the list of what it was asked."""
    asked: list[int] = []

    def measure(rows: int) -> float:
        asked.append(rows)
        return seconds[rows]

    return measure, asked


@pytest.mark.parametrize(("most", "rows"), [(8, 4), (4, 4), (2, 2), (1, 1)])
def test_the_width_is_where_another_doubling_gains_little_and_within_the_setting(most, rows):
    assert Widths(PROFILE, most).rows(64) == rows


def test_where_nothing_is_gained_there_is_one_row():
    assert Widths(PROFILE, 8).rows(256) == 1


def test_what_was_not_profiled_is_as_the_next_larger_or_the_largest():
    widths = Widths({64: PROFILE[64], 256: {1: 4.0, 2: 6.0}}, 8)
    assert [widths.rows(shape) for shape in (16, 65, 256, 1024)] == [4, 2, 2, 2]


def test_without_a_profile_nothing_is_shared():
    assert Widths({}, 8).rows(64) == 1


def test_where_memory_ran_out_forwards_stay_narrower_for_that_shape_and_larger_ones():
    widths = Widths({64: PROFILE[64]}, 8)
    widths.limit(64, 4)
    assert [widths.rows(shape) for shape in (32, 64, 128)] == [4, 2, 2]
    widths.limit(64, 2)
    widths.limit(64, 4)
    assert widths.rows(64) == 1
    widths.limit(64, 1)
    assert widths.rows(64) == 1


def test_measuring_stops_where_a_doubling_does_not_pay():
    measure, asked = forwards({1: 1.0, 2: 1.4, 4: 2.75})
    assert profile(measure, 8) == {1: 1.0, 2: 1.4, 4: 2.75}
    assert asked == [1, 2, 4]


def test_measuring_stops_where_memory_ends_and_at_the_setting():
    measure, asked = forwards({1: 1.0, 2: 1.4, 4: inf})
    assert profile(measure, 8) == {1: 1.0, 2: 1.4}
    assert profile(measure, 2) == {1: 1.0, 2: 1.4}
    assert profile(measure, 0) == {1: 1.0}
    assert asked == [1, 2, 4, 1, 2, 1]
