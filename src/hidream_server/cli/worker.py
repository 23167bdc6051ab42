"""Runs worker groups for the servers on the same database: an engine and its house, and no HTTP."""

import asyncio
import logging

from hidream_server.cli.deciding import decide, require_shared
from hidream_server.cli.event_loop import run_loop, spare_collector
from hidream_server.cli.groups import new_engine
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
    settings, tracing = serving.settings, Tracing(serving.settings.otlp_endpoint)
    observer = Observers(*tracing.observers)
    stores = open_stores(settings, open_database(settings), serving.new_outlook(), observer)
    engine = new_engine(serving, stores, observer)
    membership = new_membership(serving, stores, engine)
    spare_collector()
    try:
        async with kept_in_order(stores, membership, engine, startup):
            stop_on_signals(engine, settings.drain_timeout_s)
            await engine.run()
    finally:
        stores.close()
        await asyncio.to_thread(tracing.close)
