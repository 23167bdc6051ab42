"""What the engine says of itself."""

import pytest

from hidream_server.engine.health import EngineHealth, EngineState, HealthRecord


class Clock:
    """A clock that ticks once each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_at_first_the_engine_is_starting():
    assert HealthRecord(Clock()).now == EngineHealth(state=EngineState.STARTING, since=1.0)


@pytest.mark.parametrize("state", EngineState)
def test_only_a_healthy_engine_is_ready(state):
    assert EngineHealth(state=state, since=0.0).ready is (state is EngineState.HEALTHY)


def test_warm_is_healthy_with_what_the_load_took():
    record = HealthRecord(Clock())
    record.warm(memory_bytes=2**30)
    assert record.now == EngineHealth(state=EngineState.HEALTHY, since=2.0, memory_bytes=2**30)


def test_a_state_is_entered_with_its_time_and_reason_and_the_next_one_has_its_own():
    record = HealthRecord(Clock())
    record.enter(EngineState.DEGRADED, "rank 0 left")
    assert (record.now.state, record.now.since) == (EngineState.DEGRADED, 2.0)
    assert record.now.reason == "rank 0 left"
    record.warm(1)
    assert (record.now.since, record.now.reason) == (3.0, "")


@pytest.mark.parametrize("state", EngineState)
def test_nothing_leads_out_of_stopping(state):
    record = HealthRecord(Clock())
    record.enter(EngineState.STOPPING)
    stopped = record.now
    record.enter(state, "later")
    assert record.now == stopped
    record.warm(1)
    assert record.now.state is EngineState.STOPPING


def test_a_snapshot_does_not_change_afterwards():
    record = HealthRecord(Clock())
    before = record.now
    record.enter(EngineState.DEGRADED, "lost")
    assert before.state is EngineState.STARTING
