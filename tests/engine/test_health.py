"""What the engine says of itself."""

from hidream_server.engine.health import NOBODY, EngineHealth, EngineState, HealthRecord, combined


class Clock:
    """A clock that ticks once each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_at_first_the_engine_is_starting_with_what_was_wanted():
    now = HealthRecord("tp4", Clock()).now
    assert (now.state, now.since, now.ready) == (EngineState.STARTING, 1.0, False)
    assert now.layout == now.wanted_layout == "tp4"


def test_warm_with_the_wanted_layout_is_healthy():
    record = HealthRecord("tp4", Clock())
    record.starting("tp4")
    record.warm(memory_bytes=2**30)
    assert (record.now.state, record.now.since) == (EngineState.HEALTHY, 2.0)
    assert record.now.ready
    assert record.now.memory_bytes == 2**30


def test_a_loss_is_told_with_its_time_and_reason():
    record = HealthRecord("tp4", Clock())
    record.warm(1)
    record.lost("rank 0 left")
    assert (record.now.state, record.now.since) == (EngineState.DEGRADED, 3.0)
    assert record.now.reason == "rank 0 left"
    assert not record.now.ready


def test_a_smaller_layout_serves_but_stays_degraded_since_the_loss():
    record = HealthRecord("tp4", Clock())
    record.lost("rank 3 left")
    record.starting("tp2")
    assert not record.now.ready
    record.warm(1)
    assert record.now.ready
    assert (record.now.state, record.now.since) == (EngineState.DEGRADED, 2.0)
    assert (record.now.layout, record.now.wanted_layout) == ("tp2", "tp4")
    assert record.now.reason == "rank 3 left"
    record.starting("tp4")
    record.warm(1)
    assert (record.now.state, record.now.reason) == (EngineState.HEALTHY, "")


def test_nothing_leads_out_of_stopping():
    record = HealthRecord("tp1", Clock())
    record.warm(1)
    record.stopping()
    since = record.now.since
    for change in (lambda: record.lost("later"), lambda: record.warm(1), record.stopping):
        change()
        assert record.now.state is EngineState.STOPPING
        assert record.now.since == since
        assert not record.now.ready


def test_a_snapshot_does_not_change_afterwards():
    record = HealthRecord("tp1", Clock())
    before = record.now
    record.lost("lost")
    assert before.state is EngineState.STARTING


def health(state: EngineState, since: float, warm: bool = True, memory: int = 1) -> EngineHealth:
    return EngineHealth(state=state, since=since, warm=warm, memory_bytes=memory, reason=str(since))


def test_the_health_is_that_of_the_worst_off_and_ready_if_any_is() -> None:
    now = combined(
        [
            health(EngineState.HEALTHY, since=1, memory=5),
            health(EngineState.DEGRADED, since=3, warm=False),
            health(EngineState.DEGRADED, since=2, warm=False),
        ]
    )
    assert (now.state, now.reason, now.memory_bytes) == (EngineState.DEGRADED, "2", 5)
    assert now.ready
    assert (now.replicas, now.replicas_ready) == (3, 1)


def test_nobody_warm_is_not_ready() -> None:
    now = combined([health(EngineState.STARTING, since=n, warm=False) for n in range(2)])
    assert not now.ready
    assert now.replicas_ready == 0


def test_of_nobody_it_is_said_that_nobody_is_there() -> None:
    now = combined([])
    assert (now.state, now.reason) == (EngineState.DEGRADED, NOBODY)
    assert not now.ready
    assert now.replicas == 0
