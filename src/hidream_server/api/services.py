"""What the routes work with, and how they get it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from hidream_server.api.access import CallerDep
from hidream_server.api.converting import Converting
from hidream_server.api.counting import Counting
from hidream_server.api.feed import Feed
from hidream_server.api.following import Following
from hidream_server.api.keyring import Keyring, LinkSigner
from hidream_server.api.limits import Limits
from hidream_server.api.links import Links
from hidream_server.engine.health import EngineHealth, combined
from hidream_server.engine.membership import Member
from hidream_server.metrics.metrics import Metrics
from hidream_server.model_directory.description import ModelTraits
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.settings import Settings
from hidream_server.store.batches import BatchStore
from hidream_server.store.files import FileStore
from hidream_server.store.results import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything behind the routes; made once, where the server is put together."""

    settings: Settings
    limits: Limits
    model: ModelTraits
    queue: TaskQueue
    results: Results
    files: FileStore
    batches: BatchStore
    #: All worker groups that are known to live.
    members: Callable[[], Sequence[Member]]
    #: How tasks are doing, what happens to them, and how many there are, for all who ask at once.
    following: Following
    feed: Feed
    counting: Counting
    keyring: Keyring
    signer: LinkSigner
    converting: Converting
    metrics: Metrics

    def health(self) -> EngineHealth:
        """Return how all of them are, together."""
        return combined([member.health for member in self.members()])


async def _services(request: Request) -> Services:
    # A plain function would be called in a thread, which costs more than all it does.
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


async def _links(request: Request, caller: CallerDep, services: ServicesDep) -> Links:
    """Make links with the address that this caller uses for the server."""
    base = services.settings.api_base_url or str(request.base_url)
    return Links(base.rstrip("/"), services.signer if caller.key is not None else None)


LinksDep = Annotated[Links, Depends(_links)]
