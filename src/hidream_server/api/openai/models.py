"""The served model as OpenAI's clients list it, under its own name and its aliases."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from hidream_server.api.services import Services, ServicesDep
from hidream_server.errors import ModelNotFoundError

router = APIRouter(prefix="/v1/models", tags=["openai"])

#: When HiDream-I1 was published.
_CREATED = int(datetime(2025, 4, 6, tzinfo=UTC).timestamp())


@router.get("")
async def list_models(services: ServicesDep) -> dict[str, Any]:
    """List the names of the served model."""
    return {"object": "list", "data": [_model(name) for name in _names(services)]}


@router.get("/{model:path}")
async def get_model(model: str, services: ServicesDep) -> dict[str, Any]:
    """Describe the served model by one of its names."""
    require_served(services, model)
    return _model(model)


def require_served(services: Services, model: str | None) -> None:
    """Raise ModelNotFoundError if a model is asked for that is not served."""
    names = _names(services)
    if model is not None and model not in names:
        raise ModelNotFoundError(
            f"The model {model!r} is not served; served is {', '.join(names)}. Other names are"
            " given by --model-aliases."
        )


def _names(services: Services) -> list[str]:
    aliases = services.settings.model_aliases or ""
    return [services.model.name, *(name.strip() for name in aliases.split(",") if name.strip())]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "HiDream.ai"}
