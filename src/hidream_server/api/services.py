"""What the routes work with, and how they get it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from hidream_server.api.limits import Limits
from hidream_server.devices.choice import DeviceChoice
from hidream_server.engine.health import EngineHealth
from hidream_server.metrics.metrics import Metrics
from hidream_server.model_directory.description import ModelDescription
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.settings import Settings
from hidream_server.store.keyed_files import KeyedFiles
from hidream_server.store.pictures import PictureFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything behind the routes; made once, where the server is put together."""

    settings: Settings
    limits: Limits
    model: ModelDescription
    devices: DeviceChoice
    queue: TaskQueue
    pictures: PictureFolder
    previews: KeyedFiles
    health: Callable[[], EngineHealth]
    metrics: Metrics


async def _services(request: Request) -> Services:
    # A plain function would be called in a thread, which costs more than all it does.
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


def base_url(request: Request, settings: Settings) -> str:
    """Return the address that this client uses for the server, with no slash at the end."""
    return (settings.api_base_url or str(request.base_url)).rstrip("/")
