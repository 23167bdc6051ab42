"""The spans of a task: when it waited, when it was worked on, and what that went to.

They are made when the task ends, inside of the trace of its submission. Which that is is known
only to the process that took the submission in, and not after a restart: elsewhere a task's spans
are a trace of their own.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cachetools import LRUCache
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode, TracerProvider

from hidream_server import __version__
from hidream_server.observer import EndReason, Observer
from hidream_server.task import Task

#: So many open tasks are remembered; those that end on another server are never heard of again.
_REMEMBERED = 10_000


@dataclass(slots=True)
class _Run:
    """One attempt, in seconds since the epoch."""

    attempt: int
    start: float
    end: float | None = None


@dataclass(slots=True)
class _Story:
    """What is known of a task until it ends."""

    task: Task
    #: The trace of its submission.
    parent: Context = field(default_factory=Context)
    runs: list[_Run] = field(default_factory=list)


class TaskSpans(Observer):
    """Tells the stories of tasks that end here."""

    def __init__(self, provider: TracerProvider, clock: Callable[[], float] = time.time) -> None:
        """`clock` is the one by which tasks are submitted."""
        self._tracer = provider.get_tracer("hidream_server", __version__)
        self._clock = clock
        self._changing = threading.Lock()
        self._stories: LRUCache[str, _Story] = LRUCache(_REMEMBERED)

    def submitted(self, tasks: Sequence[Task]) -> None:
        # The whole context would keep the request alive.
        submission = trace.NonRecordingSpan(trace.get_current_span().get_span_context())
        with self._changing:
            for task in tasks:
                story = self._stories.setdefault(task.id, _Story(task))
                if not story.parent:
                    story.parent = trace.set_span_in_context(submission, Context())

    def started(self, task: Task) -> None:
        with self._changing:
            story = self._stories.setdefault(task.id, _Story(task))
            story.runs.append(_Run(task.attempt, task.started_at or self._clock()))

    def left(self, task: Task) -> None:
        with self._changing:
            story = self._stories.get(task.id)
            for run in story.runs if story else ():
                if run.attempt == task.attempt and run.end is None:
                    run.end = self._clock()

    def completed(self, task: Task, timings: Mapping[str, float]) -> None:
        self._end(task.id, "completed", timings)

    def failed(self, task_id: str, reason: EndReason) -> None:
        self._end(task_id, "failed", {}, reason)

    def cancelled(self, task_id: str) -> None:
        self._end(task_id, "cancelled", {})

    def _end(
        self,
        task_id: str,
        status: str,
        timings: Mapping[str, float],
        reason: EndReason | None = None,
    ) -> None:
        with self._changing:
            story = self._stories.pop(task_id, None)
        if story is None:
            return
        now = self._clock()
        span = self._open("task", story.parent, story.task.created_at, _about(story.task))
        span.set_attribute("hidream.task.status", status)
        if reason is not None:
            span.set_attribute("error.type", reason)
            span.set_status(StatusCode.ERROR, reason)
        self._tell_runs(story, trace.set_span_in_context(span, Context()), timings, now)
        span.end(_ns(now))

    def _tell_runs(
        self, story: _Story, inside: Context, timings: Mapping[str, float], now: float
    ) -> None:
        """Make a span of each wait and each attempt, the last of which has the stages."""
        since = story.task.created_at
        for run in story.runs:
            self._open("queue", inside, since).end(_ns(run.start))
            since = now if run.end is None else run.end
            span = self._open("run", inside, run.start, {"hidream.task.attempt": run.attempt})
            if run is story.runs[-1]:
                self._tell_stages(trace.set_span_in_context(span, Context()), run.start, timings)
            span.end(_ns(since))
        if since < now:
            self._open("queue", inside, since).end(_ns(now))

    def _tell_stages(self, inside: Context, start: float, timings: Mapping[str, float]) -> None:
        """Lay the stages end to end: each is a sum of what lay among other tasks' work."""
        for name, seconds in timings.items():
            self._open(name.removesuffix("_s"), inside, start).end(_ns(start + seconds))
            start += seconds

    def _open(
        self,
        name: str,
        inside: Context,
        start: float,
        attributes: Mapping[str, str | int] | None = None,
    ) -> Span:
        return self._tracer.start_span(name, inside, attributes=attributes, start_time=_ns(start))


def _about(task: Task) -> dict[str, str | int]:
    """Return what is told of a task; not its prompt, which is nobody's business."""
    params = task.params
    return {
        "hidream.task.id": task.id,
        "hidream.task.width": params.width,
        "hidream.task.height": params.height,
        "hidream.task.steps": params.num_inference_steps,
        "hidream.task.images": params.num_images,
    }


def _ns(seconds: float) -> int:
    """Return nanoseconds, in which spans are timed."""
    return int(seconds * 1e9)
