"""Spans reach a collector, and what they need is asked for only where there is one."""

import importlib.util
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import SimpleQueue

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hidream_server import __version__
from hidream_server.cli.tracing import Tracing
from hidream_server.errors import TracingMissingError
from hidream_server.observer import Observer
from hidream_server.traces.exporting import require_exporter
from hidream_server.traces.task_spans import TaskSpans


@pytest.fixture
def collector() -> Iterator[tuple[str, "SimpleQueue[tuple[str, bytes]]"]]:
    """A collector's address, and what was posted to it: path and body."""
    received: SimpleQueue[tuple[str, bytes]] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_what_was_not_sent_yet_is_sent_at_the_end(
    collector: tuple[str, "SimpleQueue[tuple[str, bytes]]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, received = collector
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    tracing = Tracing(endpoint + "/")
    assert tracing.provider is not None
    assert [type(observer) for observer in tracing.observers] == [TaskSpans]
    tracing.provider.get_tracer("test").start_span("a span").end()
    tracing.close()
    path, body = received.get_nowait()
    assert path == "/v1/traces"
    [spans] = ExportTraceServiceRequest.FromString(body).resource_spans
    about = {item.key: item.value.string_value for item in spans.resource.attributes}
    assert about["service.name"] == "hidream-server"
    assert about["service.version"] == __version__
    assert [span.name for span in spans.scope_spans[0].spans] == ["a span"]


def test_a_missing_exporter_is_said_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(TracingMissingError, match=r"pip install 'hidream-server\[otel\]'"):
        require_exporter()


def test_a_missing_parent_of_the_exporter_is_no_other_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_spec(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(TracingMissingError):
        require_exporter()


def test_a_collector_that_does_not_answer_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hidream_server.cli.tracing._CLOSE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracing = Tracing(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert tracing.provider is not None
        tracing.provider.get_tracer("test").start_span("a span").end()
        since = time.monotonic()
        tracing.close()
        assert time.monotonic() - since < 5


def test_without_a_collector_there_is_nothing_to_close() -> None:
    tracing = Tracing(None)
    observers: list[Observer] = tracing.observers
    assert (tracing.provider, observers) == (None, [])
    tracing.close()


def test_without_a_collector_nothing_of_the_extra_is_imported() -> None:
    program = (
        "import sys, hidream_server.cli.server, hidream_server.cli.tracing as t; t.Tracing(None);"
        "print(*[m for m in sys.modules if m.startswith(('opentelemetry.sdk',"
        " 'opentelemetry.exporter', 'hidream_server.traces.task_spans'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
