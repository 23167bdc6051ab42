"""What groups and their ranks use."""

from prometheus_client import CollectorRegistry

from hidream_server.metrics.group_metrics import GroupMetrics


def test_ranks_of_a_group_that_is_gone_are_forgotten_and_those_of_others_are_not():
    registry = CollectorRegistry()
    metrics = GroupMetrics(registry)

    def peak(rank: str) -> float | None:
        return registry.get_sample_value("hidream_peak_memory_bytes", {"rank": rank})

    for group in (0, 1):
        metrics.group_started(group)
        for rank in (0, 1):
            metrics.memory_used(group, rank, 100 * group + rank)
    assert [peak(rank) for rank in ("0-0", "0-1", "1-0", "1-1")] == [0, 1, 100, 101]
    assert registry.get_sample_value("hidream_worker_restarts_total") == 0
    metrics.group_started(0)
    metrics.memory_used(0, 0, 7)
    assert [peak(rank) for rank in ("0-0", "0-1", "1-0", "1-1")] == [7, None, 100, 101]
    assert registry.get_sample_value("hidream_worker_restarts_total") == 1
