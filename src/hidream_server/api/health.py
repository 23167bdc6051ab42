"""Is the server alive, ready, and how is it doing."""

from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from hidream_server import __version__
from hidream_server.api.schemas import (
    DeviceAnswer,
    HealthAnswer,
    ModelAnswer,
    RootAnswer,
)
from hidream_server.api.services import ServicesDep
from hidream_server.api.studio import page, wants_page
from hidream_server.demo import DEMO_NOTICE
from hidream_server.engine.membership import Member
from hidream_server.task import TaskState

router = APIRouter(tags=["health"])


@router.get("/", response_model=RootAnswer)
async def root(
    request: Request, services: ServicesDep, response: Response
) -> RootAnswer | Response:
    """Say what this is; to browsers with the page HiDream Studio."""
    if wants_page(request):
        return page()
    response.headers["Vary"] = "Accept"
    return RootAnswer(
        message="HiDream-I1 image generation",
        status=services.health().state,
        version=__version__,
        docs=f"{request.scope['root_path']}/docs",
    )


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer as soon as the server runs, whatever the model does."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(services: ServicesDep, response: Response) -> dict[str, str]:
    """Answer 200 once the worker group is warm, 503 before and while there is none."""
    health = services.health()
    response.status_code = 200 if health.ready else 503
    return {"status": health.state}


@router.get("/health")
def health(services: ServicesDep) -> HealthAnswer:
    """Say what is served, on what, and how busy it is."""
    members, counts = services.members(), services.queue.counts()
    engine, model = services.health(), services.model
    is_toy = model.is_demo and services.settings.executor == "resident"
    return HealthAnswer(
        status=engine.state,
        pipeline_ready=engine.ready,
        queue_length=counts[TaskState.QUEUED],
        active_tasks=counts[TaskState.PROCESSING],
        total_tasks=sum(counts.values()),
        reason=engine.reason,
        since=datetime.fromtimestamp(engine.since, UTC),
        version=__version__,
        model=ModelAnswer(
            name=model.name,
            variant=model.variant,
            sampler=model.sampler,
            demo=model.is_demo,
            notice=DEMO_NOTICE if is_toy else None,
        ),
        executor=services.settings.executor,
        device=_device(members, engine.memory_bytes),
        layout=engine.layout,
        wanted_layout=engine.wanted_layout,
        replicas=engine.replicas,
        replicas_ready=engine.replicas_ready,
    )


def _device(members: Sequence[Member], memory_bytes: int | None) -> DeviceAnswer | None:
    """Return the devices of this server, or of the first that it knows of."""
    if not members:
        return None
    first = members[0].devices
    same = [member.devices for member in members if member.machine == members[0].machine]
    ids = sorted({number for devices in same for number in devices["ids"]})
    return DeviceAnswer(
        type=first["type"], ids=ids, dtype=first["dtype"], memory_bytes=memory_bytes
    )
