"""Where spans go: to a collector, by OTLP over HTTP. Only here the otel extra is needed."""

import importlib.util
import logging
import os
from typing import TYPE_CHECKING

from hidream_server import __version__
from hidream_server.errors import TracingMissingError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_PATH = "/v1/traces"


def require_exporter() -> None:
    """Raise TracingMissingError unless the otel extra is installed."""
    try:
        found = importlib.util.find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise TracingMissingError(
            "--otlp-endpoint needs OpenTelemetry's exporter: pip install 'hidream-server[otel]'"
        )


def open_provider(endpoint: str) -> "TracerProvider":
    """Return a provider that sends spans to this collector, in batches, from a thread of its own.

    Headers, certificates and the like are read from OpenTelemetry's own environment variables.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Each try that fails would be a line in our log; a batch that is lost is one.
    logging.getLogger("opentelemetry.exporter").setLevel("ERROR")
    about = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME", "hidream-server"),
        "service.version": __version__,
    }
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + _PATH)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
