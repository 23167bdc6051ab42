"""Step times as measured."""

import pytest

from hidream_server.scheduling.pace import Pace


def test_before_anything_was_measured_more_work_takes_longer():
    assert Pace().step_s(2.0) == pytest.approx(2 * Pace().step_s(1.0))


def test_what_was_measured_is_known_and_follows_the_latest():
    pace = Pace()
    pace.measured(1.0, 0.5)
    assert pace.step_s(1.0) == 0.5
    for _ in range(50):
        pace.measured(1.0, 0.1)
    assert pace.step_s(1.0) == pytest.approx(0.1, rel=0.01)


def test_other_work_is_scaled_from_the_nearest():
    pace = Pace()
    pace.measured(0.25, 0.1)
    pace.measured(2.0, 1.0)
    assert pace.step_s(1.5) == pytest.approx(0.75)
    assert pace.step_s(0.125) == pytest.approx(0.05)
