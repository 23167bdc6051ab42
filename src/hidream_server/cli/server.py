"""Puts a server together, and runs it from its first socket to its last task.

With worker groups of its own; or without, where other processes do the work.
"""

import asyncio
import logging
import socket

from hidream_server.api.app import create_app
from hidream_server.api.converting import Converting
from hidream_server.api.counting import Counting
from hidream_server.api.feed import Feed
from hidream_server.api.following import Following
from hidream_server.api.keyring import Keyring, LinkSigner
from hidream_server.api.limits import Limits
from hidream_server.api.services import Services
from hidream_server.cli.deciding import check_all, decide
from hidream_server.cli.event_loop import run_loop, spare_collector
from hidream_server.cli.groups import new_engine
from hidream_server.cli.http_server import HttpServer
from hidream_server.cli.instance import claim_instance
from hidream_server.cli.lifetime import (
    hold_signals,
    kept_in_order,
    logging_mistakes,
    start_logs,
    stop_on_signals,
)
from hidream_server.cli.listener import bind
from hidream_server.cli.members import new_membership, traits_of_workers
from hidream_server.cli.open_files import allow_connections
from hidream_server.cli.serving import Serving, new_outlook
from hidream_server.cli.stores import open_database, open_stores
from hidream_server.cli.tracing import Tracing
from hidream_server.cli.webhooks import new_deliverer
from hidream_server.engine.replicas import Replicas
from hidream_server.metrics.metrics import Metrics
from hidream_server.observer import Observers
from hidream_server.queue.deliverer import Deliverer
from hidream_server.settings import Settings
from hidream_server.store.batches import BatchStore
from hidream_server.store.files import FileStore
from hidream_server.store.keys import KeyStore
from hidream_server.store.secrets import secret

logger = logging.getLogger(__name__)


def run_server(settings: Settings) -> None:
    """Serve until a signal comes and the tasks are drained."""
    hold_signals()
    serving = decide(settings) if settings.replicas else None
    if serving is None:
        check_all(settings)
    with claim_instance(settings.data_dir):
        listener = bind(settings.host, settings.port)
        startup = start_logs(settings)
        if serving is not None:
            serving.prepare()
            serving.announce()
        allow_connections(settings.max_connections)
        with logging_mistakes():
            run_loop(_serve(settings, serving, listener, startup))
        logger.info("Stopped")


async def _serve(
    settings: Settings,
    serving: Serving | None,
    listener: socket.socket,
    startup: logging.Handler,
) -> None:
    metrics, tracing = Metrics(), Tracing(settings.otlp_endpoint)
    observer = Observers(*metrics.observers, *tracing.observers)
    database = open_database(settings)
    model = traits_of_workers(database) if serving is None else serving.model.traits
    places = settings.max_running if serving is None else serving.places
    stores = open_stores(settings, database, new_outlook(settings, model, places), observer)
    engine = Replicas([]) if serving is None else new_engine(serving, stores, observer)
    membership = new_membership(serving, stores, engine)
    signer = LinkSigner(secret(database, "picture links"), settings.link_lifetime_s)
    deliverer = new_deliverer(settings, stores, signer)
    services = Services(
        settings=settings,
        limits=Limits(settings, model),
        model=model,
        queue=stores.queue,
        results=stores.results,
        files=FileStore(database),
        batches=BatchStore(database),
        members=lambda: membership.members,
        following=Following(stores.queue),
        feed=Feed(stores.queue.history),
        counting=Counting(stores.queue),
        converting=Converting(),
        keyring=Keyring(stores.keys),
        signer=signer,
        metrics=metrics,
    )
    http = HttpServer(create_app(services, tracing.provider), settings)
    logger.info("Listening on %s port %d", settings.host, settings.port)
    logger.info("The page: %s", _page_address(settings))
    _warn_of_strangers(settings.host, stores.keys)
    spare_collector()
    try:
        async with kept_in_order(stores, membership, engine, startup):
            stop_on_signals(engine, settings.drain_timeout_s)
            await _run(http, engine, services.feed, deliverer, listener)
    finally:
        stores.close()
        await asyncio.to_thread(tracing.close)


def _page_address(settings: Settings) -> str:
    """Return where a browser on this machine finds the page."""
    scheme = "http" if settings.ssl_certfile is None else "https"
    host = "localhost" if settings.host in ("0.0.0.0", "::", "127.0.0.1", "::1") else settings.host
    here = f"{scheme}://{host}:{settings.port}{settings.root_path or ''}/"
    return settings.api_base_url or here


def _warn_of_strangers(host: str, keys: KeyStore) -> None:
    """Say that everybody may do everything, where that may be more people than was thought of."""
    if host not in ("localhost", "::1") and not host.startswith("127.") and not keys.count():
        logger.warning(
            "Everybody who can reach this machine may use the service: there is no API key. Make"
            " one with: hidream keys create NAME"
        )


async def _run(
    http: HttpServer,
    engine: Replicas,
    feed: Feed,
    deliverer: Deliverer,
    listener: socket.socket,
) -> None:
    """Answer HTTP for as long as the engine lives, a drain included."""
    answering = asyncio.create_task(http.serve(sockets=[listener]))
    working = asyncio.create_task(engine.run())
    delivering = asyncio.create_task(deliverer.run())
    await asyncio.wait((answering, working), return_when=asyncio.FIRST_COMPLETED)
    engine.stop()
    await asyncio.wait((working,))
    deliverer.stop()
    await feed.close()
    await delivering
    http.should_exit = True
    await answering
    working.result()
