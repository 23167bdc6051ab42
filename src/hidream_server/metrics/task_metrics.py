"""Counts and times tasks, steps, stages, and what worker groups use.

Hears of them as an observer; knows nothing of queues, ranks or HTTP.
"""

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hidream_server.observer import PROMPT_EMBEDDINGS, EndReason, Observer
from hidream_server.task import Task

#: Stages by their names in a task's timings; `project` is all that a user's project does.
STAGES = ("encode", "denoise", "decode", "save", "project")
#: What a task has as reason that did not fail.
NO_REASON = "none"

_LONG_S = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600)
_WAIT_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_STEP_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)
_STAGE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class TaskMetrics(Observer):
    """The metrics of what the engine does."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        """`clock` is the one by which tasks are submitted."""
        self._clock = clock
        self._requests = Counter(
            "hidream_requests",
            "Tasks that ended, and submissions that were refused, by why.",
            ["status", "reason"],
            registry=registry,
        )
        self._latency = Histogram(
            "hidream_request_latency_seconds",
            "Seconds from the submission of a task to its completion.",
            buckets=_LONG_S,
            registry=registry,
        )
        self._queue_time = Histogram(
            "hidream_queue_time_seconds",
            "Seconds from the submission of a task to its first start.",
            buckets=_WAIT_S,
            registry=registry,
        )
        self._step = Histogram(
            "hidream_denoise_step_seconds",
            "Seconds of a denoising step, by how many rows shared it.",
            ["rows"],
            buckets=_STEP_S,
            registry=registry,
        )
        self._stage = Histogram(
            "hidream_stage_latency_seconds",
            "Seconds that a completed task spent in each stage, over all its images.",
            ["stage"],
            buckets=_STAGE_S,
            registry=registry,
        )
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
            "hidream_cache_requests",
            "Look-ups in a cache.",
            ["cache"],
            registry=registry,
        )
        self._cache_hits = Counter(
            "hidream_cache_hits",
            "Look-ups in a cache that found what they wanted.",
            ["cache"],
            registry=registry,
        )
        #: Of every group that was ever started, the ranks that said what they hold.
        self._ranks: dict[int, set[str]] = {}
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Export what has not happened yet, so that its first time is seen as an increase."""
        for status in ("completed", "cancelled"):
            self._requests.labels(status, NO_REASON)
        for reason in EndReason:
            self._requests.labels("failed", reason)
        for stage in STAGES[:4]:
            self._stage.labels(stage)
        for counter in (self._cache_requests, self._cache_hits):
            counter.labels(PROMPT_EMBEDDINGS)

    def refused(self, code: str) -> None:
        """A submission was refused, with the code of this error."""
        self._requests.labels("refused", code).inc()

    def started(self, task: Task) -> None:
        if task.attempt == 1 and task.started_at is not None:
            self._queue_time.observe(max(0.0, task.started_at - task.created_at))

    def completed(self, task: Task, timings: Mapping[str, float]) -> None:
        self._requests.labels("completed", NO_REASON).inc()
        self._latency.observe(max(0.0, self._clock() - task.created_at))
        for name, seconds in timings.items():
            if (stage := name.removesuffix("_s")) in STAGES:
                self._stage.labels(stage).observe(seconds)

    def failed(self, task_id: str, reason: EndReason) -> None:
        self._requests.labels("failed", reason).inc()

    def cancelled(self, task_id: str) -> None:
        self._requests.labels("cancelled", NO_REASON).inc()

    def stepped(self, rows: int, seconds: float) -> None:
        self._step.labels(str(rows)).observe(seconds)

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
