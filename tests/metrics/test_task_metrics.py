"""What is counted of tasks and groups in the less usual cases."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from hidream_server.metrics.task_metrics import TaskMetrics
from hidream_server.task import Task, TaskState
from tests.support import Clock, params

TASK = Task(
    id="a task",
    state=TaskState.PROCESSING,
    params=params(),
    created_at=1000.0,
    started_at=1007.0,
    attempt=1,
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> TaskMetrics:
    return TaskMetrics(registry, Clock(1030.0))


def test_only_the_first_start_ends_the_time_in_the_queue(
    metrics: TaskMetrics, registry: CollectorRegistry
):
    metrics.started(TASK)
    metrics.started(replace(TASK, attempt=2, started_at=1020.0))
    assert registry.get_sample_value("hidream_queue_time_seconds_count") == 1
    assert registry.get_sample_value("hidream_queue_time_seconds_sum") == 7


def test_latency_is_from_submission_to_completion(
    metrics: TaskMetrics, registry: CollectorRegistry
):
    metrics.completed(TASK, {})
    assert registry.get_sample_value("hidream_request_latency_seconds_sum") == 30


def test_a_clock_that_goes_back_makes_no_negative_times(
    metrics: TaskMetrics, registry: CollectorRegistry
):
    late = replace(TASK, created_at=2000.0)
    metrics.started(late)
    metrics.completed(late, {})
    assert registry.get_sample_value("hidream_queue_time_seconds_sum") == 0
    assert registry.get_sample_value("hidream_request_latency_seconds_sum") == 0


def test_a_projects_time_is_a_stage_and_what_is_not_known_is_none(
    metrics: TaskMetrics, registry: CollectorRegistry
):
    metrics.completed(TASK, {"project_s": 9.0, "made_up_s": 5.0})
    name = "hidream_stage_latency_seconds_sum"
    assert registry.get_sample_value(name, {"stage": "project"}) == 9
    assert registry.get_sample_value(name, {"stage": "made_up"}) is None
