"""All metrics of one server, in a registry of its own, and their text for a scrape."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from hidream_server.metrics.group_metrics import GroupMetrics
from hidream_server.metrics.http_metrics import HttpMetrics
from hidream_server.metrics.state import State
from hidream_server.metrics.task_metrics import TaskMetrics


class Metrics:
    """What is counted from the start of the server to its end."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._registry = CollectorRegistry()
        self.tasks = TaskMetrics(self._registry, clock)
        #: Those who are to hear of what the engine does.
        self.observers = (self.tasks, GroupMetrics(self._registry))
        self.http = HttpMetrics(self._registry)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self, state: State, accept: str = "") -> tuple[bytes, str]:
        """Return the text and its content type, in the format that an Accept header prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(_Scrape(self._registry, state)), content_type


class _Scrape(Collector):
    """What was counted and what is true now, together."""

    def __init__(self, registry: CollectorRegistry, state: State) -> None:
        self._registry = registry
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from self._state.collect()
        for metric in self._registry.collect():
            # When each series began would double their number, and is in the process' start time.
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric
