"""Runs worker groups for the servers on the same database: an engine and its house, and no HTTP."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable

from hidream_server.cli.deciding import decide, require_shared
from hidream_server.cli.event_loop import run_loop, spare_collector
from hidream_server.cli.groups import new_engine, torchrun_launcher
from hidream_server.cli.instance import claim_instance
from hidream_server.cli.lifetime import (
    hold_signals,
    kept_in_order,
    logging_mistakes,
    start_logs,
    stop_on_signals,
)
from hidream_server.cli.members import new_membership
from hidream_server.cli.serving import Serving
from hidream_server.cli.stores import open_database, open_stores
from hidream_server.cli.tracing import Tracing
from hidream_server.engine.launchers.launcher import GroupLauncher
from hidream_server.engine.replicas import Replicas
from hidream_server.observer import Observers
from hidream_server.settings import Settings

logger = logging.getLogger(__name__)


def run_worker(settings: Settings) -> None:
    """Work until a signal comes and the tasks are drained."""
    hold_signals()
    require_shared(settings)
    serving = decide(settings)
    with claim_instance(settings.data_dir):
        startup = start_logs(settings)
        serving.prepare()
        serving.announce()
        with logging_mistakes():
            run_loop(_work(serving, startup))
        logger.info("Stopped")


async def _work(serving: Serving, startup: logging.Handler) -> None:
    spare_collector()
    async with at_work(serving, startup) as engine:
        stop_on_signals(engine, serving.settings.drain_timeout_s)
        await engine.run()


@contextlib.asynccontextmanager
async def at_work(
    serving: Serving,
    startup: logging.Handler,
    new_launcher: Callable[[Serving], GroupLauncher] = torchrun_launcher,
) -> AsyncGenerator[Replicas]:
    """Make an engine, which is to be run for as long as this lasts, and keep house for it."""
    tracing = Tracing(serving.settings.otlp_endpoint)
    observer = Observers(*tracing.observers)
    stores = open_stores(
        serving.settings, open_database(serving.settings), serving.new_outlook(), observer
    )
    try:
        engine = new_engine(serving, stores, observer, new_launcher)
        membership = new_membership(serving, stores, engine)
        async with kept_in_order(stores, membership, engine, startup):
            yield engine
    finally:
        stores.close()
        await asyncio.to_thread(tracing.close)
