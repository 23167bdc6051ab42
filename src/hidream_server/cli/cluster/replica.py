"""What a replica of Ray Serve is: the supervisor of one worker group, as in `hidream worker`.

Serve places it, with its ranks, on a machine, asks whether it is well, and stops it. Work comes
from the database; nobody calls it.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import IO, Any

from ray.util import get_current_placement_group

from hidream_server.cli.cluster.config import Shared, Target, settings_flags
from hidream_server.cli.deciding import decide, require_shared
from hidream_server.cli.instance import claim_free
from hidream_server.cli.lifetime import logging_mistakes, start_logs
from hidream_server.cli.serving import Serving
from hidream_server.cli.worker import at_work
from hidream_server.engine.launchers.ray import RayLauncher, device_ids
from hidream_server.engine.replicas import Replicas
from hidream_server.errors import EngineError
from hidream_server.settings import load_settings

logger = logging.getLogger(__name__)


class GroupReplica:
    """Begins to work when it is made; it is made once it has been warm."""

    async def __init__(self, shared: Mapping[str, Any], target: Mapping[str, Any]) -> None:  # type: ignore[misc]
        self._target = Target.model_validate(target)
        group = get_current_placement_group()
        assert group is not None
        self._group = group
        serving, startup = await asyncio.to_thread(self._prepare, Shared.model_validate(shared))
        engine: asyncio.Future[Replicas] = asyncio.get_running_loop().create_future()
        self._working = asyncio.create_task(self._work(serving, startup, engine))
        await asyncio.wait((self._working, engine), return_when=asyncio.FIRST_COMPLETED)
        self._unless_ended()
        self._engine = engine.result()
        ready = asyncio.create_task(self._engine.wait_ready())
        await asyncio.wait((self._working, ready), return_when=asyncio.FIRST_COMPLETED)
        self._unless_ended()

    async def check_health(self) -> None:
        """Raise where only a new replica helps: what befalls a group its supervisor sees to."""
        self._unless_ended()
        if self._engine.stuck:
            raise EngineError("The supervisor has not replaced a group that stands still.")

    async def __del__(self) -> None:
        """Claim nothing more, let running tasks finish within the bound, hand the rest back."""
        logger.info("Stopping: %d running task(s) may finish", self._engine.running)
        self._engine.stop()
        await self._working
        self._owned.close()

    def _prepare(self, shared: Shared) -> tuple[Serving, logging.Handler]:
        """Decide what is served, with a data directory of this replica's own."""
        bundles = self._target.rank_bundles
        devices = device_ids(self._group, bundles)
        data_dir, self._owned = claim_free(shared.data_dir / self._target.name)
        flags = settings_flags(shared, self._target, data_dir)
        settings = load_settings({**flags, "devices": devices})
        require_shared(settings)
        serving = decide(settings)
        startup = start_logs(settings)
        serving.prepare()
        serving.announce()
        return serving, startup

    async def _work(
        self, serving: Serving, startup: logging.Handler, made: "asyncio.Future[Replicas]"
    ) -> None:
        with logging_mistakes():
            async with at_work(serving, startup, self._new_launcher) as engine:
                made.set_result(engine)
                await engine.run()

    def _new_launcher(self, serving: Serving) -> RayLauncher:
        niceness = serving.devices.kind.niceness
        return RayLauncher(self._group, self._target.rank_bundles, niceness)

    def _unless_ended(self) -> None:
        if self._working.done():
            self._working.result()
            raise EngineError("The engine has ended.")

    _owned: IO[str]
