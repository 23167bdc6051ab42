"""What is true at the moment of a scrape, as opposed to what was counted until then."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

from hidream_server.engine.health import EngineHealth, EngineState
from hidream_server.task import TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How the server is now."""

    #: Version, model, variant and device.
    build: dict[str, str]
    health: EngineHealth
    #: Tasks by state; None where the database does not answer.
    counts: Mapping[TaskState, int] | None

    def collect(self) -> Iterator[Metric]:
        """Yield its metrics; what is not known is left out."""
        yield GaugeMetricFamily(
            "hidream_ready", "1 while a worker group is warm, else 0.", value=self.health.ready
        )
        layout = {
            "layout": self.health.layout,
            "wanted": self.health.wanted_layout,
            "degraded": "true" if self.health.state is EngineState.DEGRADED else "false",
        }
        yield InfoMetricFamily(
            "hidream_layout", "How the worker group splits the work, and how it was to.", layout
        )
        yield InfoMetricFamily("hidream_build", "What is served, and by what.", self.build)
        if self.counts is not None:
            yield GaugeMetricFamily(
                "hidream_num_queue_reqs",
                "Tasks queued in the database.",
                value=self.counts[TaskState.QUEUED],
            )
            yield GaugeMetricFamily(
                "hidream_num_running_reqs",
                "Tasks that worker groups have on hand, by the database.",
                value=self.counts[TaskState.PROCESSING],
            )
