"""Counts worker groups, and what their ranks hold and look up.

Hears of them as an observer; knows nothing of tasks.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

from hidream_server.observer import PROMPT_EMBEDDINGS, STEP_OUTPUTS, Observer


class GroupMetrics(Observer):
    """The metrics of the groups that do the work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._peak_memory = Gauge(
            "hidream_peak_memory_bytes",
            "Most memory that a rank has held since it was started, on its device; on the CPU, of"
            " its process.",
            ["rank"],
            registry=registry,
        )
        self._restarts = Counter(
            "hidream_worker_restarts",
            "Worker groups started in the place of another: one that was lost, that could not"
            " start, or that made way for a larger layout.",
            registry=registry,
        )
        self._cache_requests = Counter(
            "hidream_cache_requests", "Look-ups in a cache.", ["cache"], registry=registry
        )
        self._cache_hits = Counter(
            "hidream_cache_hits",
            "Look-ups in a cache that found what they wanted.",
            ["cache"],
            registry=registry,
        )
        #: Of every group that was ever started, the ranks that said what they hold.
        self._ranks: dict[int, set[str]] = {}
        # Exported before it happens, so that its first time is seen as an increase.
        for cache in (PROMPT_EMBEDDINGS, STEP_OUTPUTS):
            self.looked_up(cache, 0, 0)

    def group_started(self, group: int) -> None:
        if group in self._ranks:
            self._restarts.inc()
        # The next one may have fewer ranks.
        for rank in self._ranks.get(group, ()):
            self._peak_memory.remove(rank)
        self._ranks[group] = set()

    def memory_used(self, group: int, rank: int, peak_bytes: int) -> None:
        name = f"{group}-{rank}"
        self._ranks.setdefault(group, set()).add(name)
        self._peak_memory.labels(name).set(peak_bytes)

    def looked_up(self, cache: str, requests: int, hits: int) -> None:
        self._cache_requests.labels(cache).inc(requests)
        self._cache_hits.labels(cache).inc(hits)
