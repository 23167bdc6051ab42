"""A span for each request, in the caller's trace, and the tasks of a submission inside of it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from hidream_server.api.app import create_app
from hidream_server.queue.prospects import Prospects
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.settings import Settings
from hidream_server.traces.task_spans import TaskSpans
from tests.support import new_outlook

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


class Traced(NamedTuple):
    client: TestClient
    exporter: InMemorySpanExporter
    root_path: str

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture(params=[None, "/behind/a/proxy"])
def traced(request: pytest.FixtureRequest, services: Any, store: Any) -> Iterator[Traced]:
    """A client of a server that is traced, and the spans; with a root path or without."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    queue = TaskQueue(store, Prospects(store, new_outlook()), 3, observer=TaskSpans(provider))
    settings = Settings(root_path=request.param)
    app = create_app(replace(services, queue=queue, settings=settings), provider)
    client = TestClient(app, raise_server_exceptions=False)
    yield Traced(client, exporter, request.param or "")
    provider.shutdown()


def test_a_task_is_in_the_trace_of_whoever_submitted_it(traced: Traced):
    answer = traced.client.post("/submit", json={"prompt": "a sea"}, headers=HEADERS)
    task_id = answer.json()["task_id"]
    traced.client.delete(f"/tasks/{task_id}")
    request, task = traced.spans["POST /submit"], traced.spans["task"]
    assert f"{request.context.trace_id:032x}" == f"{task.context.trace_id:032x}" == TRACE
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == CALLER
    assert task.parent is not None
    assert task.parent.span_id == request.context.span_id
    assert (task.attributes or {})["hidream.task.id"] == task_id


def test_each_request_is_one_span_named_by_its_route(traced: Traced):
    assert traced.client.get("/status/7d3bcf59").status_code == 404
    assert list(traced.spans) == ["GET /status/{task_id}"]
    attributes = traced.spans["GET /status/{task_id}"].attributes or {}
    assert attributes["http.response.status_code"] == 404


def test_probes_and_scrapes_are_not_traced(traced: Traced):
    for path in ("/livez", "/readyz", "/metrics"):
        for prefix in ("", traced.root_path):
            assert traced.client.get(prefix + path).status_code == 200
    assert traced.spans == {}


def test_prompts_are_not_told(traced: Traced):
    traced.client.post("/submit", json={"prompt": "a secret sea", "seed": 5})
    assert "secret" not in "".join(span.to_json() for span in traced.spans.values())
