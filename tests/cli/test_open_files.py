"""As many files may be open as there may be connections, if the system lets us."""

import logging
import resource

import pytest

from hidream_server.cli.open_files import allow_connections


@pytest.fixture
def limits(monkeypatch):
    """Stands in for the limits of this process: a list of soft and hard."""
    now = [1024, 4096]

    def change(_kind: int, new: tuple[int, int]) -> None:
        now[:] = new

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", change)
    return now


def test_the_limit_is_raised_to_what_is_needed(limits, caplog):
    allow_connections(2000)
    assert 2000 < limits[0] < 4096
    assert limits[1] == 4096
    assert not caplog.records


def test_a_limit_that_is_high_enough_stays(limits):
    allow_connections(100)
    assert limits == [1024, 4096]


def test_where_the_system_allows_too_few_it_is_raised_as_far_as_it_goes_and_said(limits, caplog):
    with caplog.at_level(logging.WARNING, "hidream_server"):
        allow_connections(10_000)
    assert limits == [4096, 4096]
    [message] = caplog.messages
    assert "4096" in message
    assert "--max-connections 10000" in message


@pytest.mark.parametrize("soft", [1024, resource.RLIM_INFINITY])
def test_a_system_without_a_limit_allows_all(limits, soft):
    limits[:] = [soft, resource.RLIM_INFINITY]
    allow_connections(10_000)
    assert limits[0] > 10_000 or limits[0] == resource.RLIM_INFINITY
    assert limits[1] == resource.RLIM_INFINITY
