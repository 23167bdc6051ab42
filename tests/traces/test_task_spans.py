"""The spans of tasks: in the trace of their submission, as long as what they stand for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from hidream_server.observer import EndReason
from hidream_server.task import Task, TaskState
from hidream_server.traces import task_spans
from hidream_server.traces.task_spans import TaskSpans
from tests.support import Clock, params

TIMINGS = {"encode_s": 1.0, "denoise_s": 5.0, "decode_s": 2.0, "save_s": 0.5}


class Stage:
    """A task's spans, and the provider that others' spans come from."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.clock = Clock(1000.0)
        self.spans = TaskSpans(self.provider, self.clock)

    def submit(self, task: Task) -> ReadableSpan:
        """Submit a task inside of a span, which is returned."""
        with self.provider.get_tracer("test").start_as_current_span("POST /submit") as span:
            self.spans.submitted([task])
        assert isinstance(span, ReadableSpan)
        return span

    def start(self, task: Task, attempt: int = 1) -> Task:
        started = replace(
            task, state=TaskState.PROCESSING, attempt=attempt, started_at=self.clock.now
        )
        self.spans.started(started)
        return started

    def told(self) -> list[tuple[str, str | None, float, float]]:
        """Return name, parent's name, start and end of each span, in the order of their starts."""
        spans = self.exporter.get_finished_spans()
        names = {span.context.span_id: span.name for span in spans}
        return sorted(
            (
                (
                    span.name,
                    names[span.parent.span_id] if span.parent else None,
                    span.start_time / 1e9,
                    span.end_time / 1e9,
                )
                for span in spans
                if span.name != "POST /submit"
            ),
            key=lambda one: one[2:],
        )

    def one(self, name: str) -> ReadableSpan:
        [span] = (span for span in self.exporter.get_finished_spans() if span.name == name)
        return span


@pytest.fixture
def stage() -> Stage:
    return Stage()


def a_task(task_id: str = "a task") -> Task:
    return Task(id=task_id, state=TaskState.QUEUED, params=params(), created_at=1000.0)


def test_a_completed_task_has_its_wait_its_run_and_its_stages(stage: Stage):
    task = a_task()
    stage.submit(task)
    stage.clock.now = 1010.0
    started = stage.start(task)
    stage.clock.now = 1020.0
    stage.spans.completed(started, TIMINGS)
    stage.spans.left(started)
    assert sorted(stage.told()) == sorted(
        [
            ("task", "POST /submit", 1000.0, 1020.0),
            ("queue", "task", 1000.0, 1010.0),
            ("run", "task", 1010.0, 1020.0),
            ("encode", "run", 1010.0, 1011.0),
            ("denoise", "run", 1011.0, 1016.0),
            ("decode", "run", 1016.0, 1018.0),
            ("save", "run", 1018.0, 1018.5),
        ]
    )


def test_it_is_in_the_trace_of_its_submission(stage: Stage):
    request = stage.submit(a_task())
    stage.spans.completed(stage.start(a_task()), TIMINGS)
    traces = {span.context.trace_id for span in stage.exporter.get_finished_spans()}
    assert traces == {request.context.trace_id}


def test_it_says_what_was_asked_for_and_keeps_the_prompt_to_itself(stage: Stage):
    stage.submit(a_task())
    stage.spans.completed(stage.start(a_task()), TIMINGS)
    assert stage.one("task").attributes == {
        "hidream.task.id": "a task",
        "hidream.task.width": 512,
        "hidream.task.height": 512,
        "hidream.task.steps": 4,
        "hidream.task.images": 1,
        "hidream.task.status": "completed",
    }
    assert stage.one("run").attributes == {"hidream.task.attempt": 1}


def test_an_attempt_that_was_lost_ends_when_it_was_lost(stage: Stage):
    task = a_task()
    stage.submit(task)
    stage.clock.now = 1002.0
    first = stage.start(task)
    stage.clock.now = 1005.0
    stage.spans.left(first)
    stage.spans.left(first)
    stage.clock.now = 1009.0
    second = stage.start(task, attempt=2)
    stage.clock.now = 1010.0
    stage.spans.completed(second, {})
    assert [(name, start, end) for name, _, start, end in stage.told() if name != "task"] == [
        ("queue", 1000.0, 1002.0),
        ("run", 1002.0, 1005.0),
        ("queue", 1005.0, 1009.0),
        ("run", 1009.0, 1010.0),
    ]


def test_a_failed_task_is_an_error_with_its_kind(stage: Stage):
    stage.submit(a_task())
    stage.start(a_task())
    stage.spans.failed("a task", EndReason.OUT_OF_MEMORY)
    span = stage.one("task")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "out_of_memory"
    assert span.attributes["hidream.task.status"] == "failed"


def test_a_task_that_is_cancelled_in_the_queue_has_only_waited(stage: Stage):
    stage.submit(a_task())
    stage.clock.now = 1003.0
    stage.spans.cancelled("a task")
    assert stage.told() == [
        ("queue", "task", 1000.0, 1003.0),
        ("task", "POST /submit", 1000.0, 1003.0),
    ]


def test_a_task_whose_submission_is_not_known_here_is_a_trace_of_its_own(stage: Stage):
    stage.spans.completed(stage.start(a_task()), {})
    assert stage.one("task").parent is None


def test_a_task_that_is_claimed_before_its_submission_is_told_finds_its_trace(stage: Stage):
    started = stage.start(a_task())
    request = stage.submit(a_task())
    stage.spans.completed(started, {})
    assert stage.one("task").context.trace_id == request.context.trace_id


def test_a_repeated_submission_leaves_a_task_in_its_first_trace(stage: Stage):
    request = stage.submit(a_task())
    stage.submit(a_task())
    stage.spans.cancelled("a task")
    assert stage.one("task").context.trace_id == request.context.trace_id


@pytest.mark.parametrize(
    "end",
    [
        lambda spans: spans.failed("a task", EndReason.OTHER),
        lambda spans: spans.cancelled("a task"),
        lambda spans: spans.left(a_task()),
    ],
)
def test_of_what_is_not_known_nothing_is_told(stage: Stage, end: Callable[[TaskSpans], Any]):
    end(stage.spans)
    assert stage.told() == []


def test_only_so_many_tasks_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(task_spans, "_REMEMBERED", 2)
    stage = Stage()
    for name in ("first", "second", "third"):
        stage.submit(a_task(name))
    for name in ("first", "second", "third"):
        stage.spans.cancelled(name)
    told = [
        (span.attributes or {})["hidream.task.id"]
        for span in stage.exporter.get_finished_spans()
        if span.name == "task"
    ]
    assert told == ["second", "third"]
