"""Puts the routes together."""

from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from hidream_server import __version__
from hidream_server.api import events, health, images, listing, tasks
from hidream_server.api.errors import handle_errors
from hidream_server.api.gate import Gate
from hidream_server.api.limits import Limits
from hidream_server.api.openai import batches, files
from hidream_server.api.openai import images as openai_images
from hidream_server.api.openai import models as openai_models
from hidream_server.api.schemas import ErrorAnswer
from hidream_server.api.services import Services


def create_app(services: Services) -> FastAPI:
    """Return the app; its /docs loads nothing from other hosts."""
    app: FastAPI = FastAPIOffline(
        title="HiDream Server",
        version=__version__,
        description="HiDream-I1: submit a prompt, follow it, fetch the picture.",
        responses={422: {"model": ErrorAnswer}, 404: {"model": ErrorAnswer}},
    )
    app.state.services = services
    openai_parts = (openai_images, openai_models, files, batches)
    for part in (tasks, listing, events, images, *openai_parts, health):
        app.include_router(part.router)
    handle_errors(app)
    app.add_middleware(Gate, keyring=services.keyring, signer=services.signer)
    _document_limits(app, services.limits)
    return app


def _document_limits(app: FastAPI, limits: Limits) -> None:
    """Have /openapi.json state the limits of this server."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            limits.document(plain()["components"]["schemas"]["GenerationRequest"])
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]
