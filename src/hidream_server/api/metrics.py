"""GET /metrics: what Prometheus asks for now and then."""

from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import Response

from hidream_server import __version__
from hidream_server.api.services import Services, ServicesDep
from hidream_server.metrics.state import State

router = APIRouter(tags=["health"])

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}


@router.get("/metrics", response_class=Response, responses=_TEXT)
async def metrics(services: ServicesDep, accept: Annotated[str, Header()] = "") -> Response:
    """Say what was counted since the start, and how the server is now, for Prometheus."""
    counts = await services.counting.look()
    state = State(build=_build(services), health=services.health(), counts=counts)
    text, content_type = services.metrics.text(state, accept)
    return Response(text, headers={"Content-Type": content_type})


def _build(services: Services) -> dict[str, str]:
    devices = sorted({str(member.devices["type"]) for member in services.members()})
    return {
        "version": __version__,
        "model": services.model.name,
        "variant": services.model.variant,
        "device": ",".join(devices),
    }
