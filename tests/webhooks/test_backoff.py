"""The schedule of tries: the specification's, with something added by chance."""

import itertools

import pytest

from hidream_server.webhooks.backoff import next_try_s


def test_without_jitter_it_is_the_schedule_of_the_specification():
    pauses = [next_try_s(failures, 0.0) for failures in range(1, 10)]
    assert list(itertools.accumulate(pauses)) == [
        5,
        5 * 60 + 5,
        35 * 60 + 5,
        2 * 3600 + 35 * 60 + 5,
        7 * 3600 + 35 * 60 + 5,
        17 * 3600 + 35 * 60 + 5,
        31 * 3600 + 35 * 60 + 5,
        51 * 3600 + 35 * 60 + 5,
        75 * 3600 + 35 * 60 + 5,
    ]


@pytest.mark.parametrize("failures", [10, 11, 1000])
def test_after_ten_tries_there_are_no_more(failures):
    assert next_try_s(failures, 0.0) is None


@pytest.mark.parametrize(("jitter", "pause_s"), [(0.0, 300), (0.5, 330), (1.0, 360)])
def test_jitter_makes_a_pause_longer_by_a_fifth_at_most(jitter, pause_s):
    assert next_try_s(2, jitter) == pytest.approx(pause_s)
