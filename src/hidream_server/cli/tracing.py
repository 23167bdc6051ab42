"""Traces, if a collector is to have them; without one nothing of OpenTelemetry's SDK is loaded."""

import threading
from typing import TYPE_CHECKING

from hidream_server.observer import Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

#: A collector that does not answer holds the end of the server up for so long, in seconds.
_CLOSE_S = 3.0


class Tracing:
    """What makes spans for one server, nothing without an endpoint."""

    def __init__(self, endpoint: str | None) -> None:
        self.provider: TracerProvider | None = None
        self.observers: list[Observer] = []
        if endpoint is not None:
            from hidream_server.traces.exporting import open_provider
            from hidream_server.traces.task_spans import TaskSpans

            self.provider = open_provider(endpoint)
            self.observers = [TaskSpans(self.provider)]

    def close(self) -> None:
        """Send what has not been sent, if that can be done soon."""
        if self.provider is not None:
            closing = threading.Thread(target=self.provider.shutdown, daemon=True)
            closing.start()
            closing.join(_CLOSE_S)
