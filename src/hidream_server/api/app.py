"""Puts the routes together."""

from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from opentelemetry.trace import TracerProvider

from hidream_server import __version__
from hidream_server.api import (
    events,
    groups,
    health,
    images,
    listing,
    metrics,
    offer,
    studio,
    tasks,
)
from hidream_server.api.edge import surround
from hidream_server.api.errors import handle_errors
from hidream_server.api.gate import Gate
from hidream_server.api.limits import Limits
from hidream_server.api.openai import batches, files
from hidream_server.api.openai import images as openai_images
from hidream_server.api.openai import models as openai_models
from hidream_server.api.schemas import ErrorAnswer
from hidream_server.api.services import Services

#: Asked again and again by machines; a trace of each would hide all others.
_UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})


def create_app(services: Services, tracer_provider: TracerProvider | None = None) -> FastAPI:
    """Return the app; its /docs loads nothing from other hosts.

    With a `tracer_provider` there is a span for each request.
    """
    app: FastAPI = FastAPIOffline(
        title="HiDream Server",
        version=__version__,
        description="HiDream-I1: submit a prompt, follow it, fetch the picture.",
        responses={422: {"model": ErrorAnswer}, 404: {"model": ErrorAnswer}},
        telemetry=_telemetry(tracer_provider, services.settings.root_path or ""),
    )
    app.state.services = services
    ours = (tasks, listing, events, images, health, groups, offer, metrics, studio)
    openai_parts = (openai_images, openai_models, files, batches)
    for part in (*ours, *openai_parts):
        app.include_router(part.router)
    app.mount("/studio", studio.Files())
    handle_errors(app)
    app.add_middleware(Gate, keyring=services.keyring, signer=services.signer)
    surround(app, services.settings, services.metrics)
    _document_limits(app, services.limits)
    return app


def _telemetry(provider: TracerProvider | None, root_path: str) -> TelemetryConfig | None:
    """Let FastAPI trace requests, and nothing else: what is counted goes to Prometheus."""
    if provider is None:
        return None
    # It looks at requests before their root path is known.
    untraced = _UNTRACED | {root_path + path for path in _UNTRACED}
    return TelemetryConfig(
        tracer_provider=provider,
        metrics=False,
        logs=False,
        operation_spans=False,
        auto_configure=False,
        exclude=lambda scope: scope.get("path") in untraced,
    )


def _document_limits(app: FastAPI, limits: Limits) -> None:
    """Have /openapi.json state the limits of this server."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            limits.document(plain()["components"]["schemas"]["GenerationRequest"])
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]
