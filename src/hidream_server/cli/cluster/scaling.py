"""How many replicas a deployment is to have, by the work that is open in the database.

Asked many times a second in Serve's controller, so it never waits: the database is asked beside
it, and what it said last is the answer.
"""

import asyncio
import logging
import math
import os
import time
from typing import Any

from ray.serve.config import AutoscalingContext

from hidream_server.errors import ConfigurationError, StoreUnavailableError
from hidream_server.store.database import Database, open_postgresql
from hidream_server.store.demand import Demand, open_demand

logger = logging.getLogger(__name__)

#: The database is asked so often, in seconds.
ASK_S = 2.0


def wanted_replicas(demand: Demand, work_per_replica: float) -> int:
    """Return how many replicas there is work for: a task is done by one of them."""
    return min(math.ceil(demand.work / work_per_replica), demand.tasks)


class OpenWorkPolicy:
    """Serve calls it, holds its answers within the bounds, and waits before it follows them."""

    def __init__(self, database: str | None, model: str | None, work_per_replica: float) -> None:
        self._url = database
        self._model = model
        self._work_per_replica = work_per_replica
        self._database: Database | None = None
        self._demand: Demand | None = None
        self._asking: asyncio.Future[None] | None = None
        self._asked_at = -math.inf

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        now = time.monotonic()
        if now >= self._asked_at + ASK_S and (self._asking is None or self._asking.done()):
            self._asked_at = now
            self._asking = asyncio.get_running_loop().run_in_executor(None, self._ask)
        if self._demand is None:
            return context.target_num_replicas, {}
        return wanted_replicas(self._demand, self._work_per_replica), {}

    def _ask(self) -> None:
        """Without an answer nothing changes."""
        try:
            if self._database is None:
                url = self._url or os.environ.get("HIDREAM_DATABASE_URL", "")
                self._database = open_postgresql(url)
            self._demand = open_demand(self._database, self._model)
        except (ConfigurationError, StoreUnavailableError) as error:
            logger.warning("How much work there is cannot be found out: %s", error)
