"""Counts and times what HTTP answers. Whoever calls it keeps the labels few."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class HttpMetrics:
    """The metrics of requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "hidream_http_requests",
            "HTTP requests that were answered; the route is a template, and other where there is"
            " none.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "hidream_http_request_seconds",
            "Seconds from an HTTP request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
