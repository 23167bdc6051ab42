"""Step times as profiled and measured."""

import pytest

from hidream_server.scheduling.pace import Pace


def test_before_anything_was_measured_more_work_takes_longer():
    step_s = Pace().step_s(64, 1)
    assert Pace({64: {}}).step_s(64, 2) == Pace().step_s(128, 1) == pytest.approx(2 * step_s)


def test_a_profile_is_known_until_it_is_measured_otherwise_and_stays_as_it_was():
    profile = {64: {1: 0.5}}
    pace = Pace(profile)
    assert pace.step_s(64, 1) == 0.5
    for _ in range(200):
        pace.measured(64, 1, 0.1)
    assert pace.step_s(64, 1) == pytest.approx(0.1, rel=0.01)
    assert profile == {64: {1: 0.5}}


def test_other_rows_lie_between_what_is_known_or_in_proportion():
    pace = Pace({64: {2: 1.4, 4: 2.4}})
    assert [pace.step_s(64, rows) for rows in (1, 3, 8)] == pytest.approx([0.7, 1.9, 4.8])


def test_other_shapes_are_scaled_from_the_nearest():
    pace = Pace({64: {1: 1.0}})
    pace.measured(256, 2, 5.0)
    assert pace.step_s(32, 1) == pytest.approx(0.5)
    assert pace.step_s(512, 2) == pytest.approx(10.0)
    assert pace.step_s(256, 1) == pytest.approx(2.5)


def test_of_fp8_is_known_what_part_of_an_exact_forward_it_takes_whatever_its_shape():
    pace = Pace({64: {1: 1.0, 2: 2.0}})
    assert pace.step_s(64, 1, fp8=True) == 1.0
    pace.measured(64, 2, 1.2, fp8=True)
    assert pace.step_s(64, 1, fp8=True) == pytest.approx(0.6)
    assert pace.step_s(128, 1, fp8=True) == pytest.approx(1.2)
    for _ in range(200):
        pace.measured(64, 1, 0.8, fp8=True)
    assert pace.step_s(64, 2, fp8=True) == pytest.approx(1.6, rel=0.01)
    assert pace.known == {64: {1: 1.0, 2: 2.0}}


def test_over_a_guess_nothing_is_learnt_of_fp8():
    pace = Pace()
    pace.measured(64, 1, 100.0, fp8=True)
    assert pace.fp8_ratio is None
