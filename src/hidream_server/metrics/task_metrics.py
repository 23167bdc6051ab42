"""Counts and times tasks, their steps and stages.

Hears of them as an observer; knows nothing of queues, groups or HTTP.
"""

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from hidream_server.observer import EndReason, Observer
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
    """The metrics of the work itself."""

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
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Export what has not happened yet, so that its first time is seen as an increase."""
        for status in ("completed", "cancelled"):
            self._requests.labels(status, NO_REASON)
        for reason in EndReason:
            self._requests.labels("failed", reason)
        for stage in STAGES[:4]:
            self._stage.labels(stage)

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
