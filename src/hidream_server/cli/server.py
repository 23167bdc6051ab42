"""Puts the server together from a serving, and runs it from its first socket to its last task."""

import asyncio
import contextlib
import logging
import shutil
import signal
import socket
from collections.abc import Iterator

from hidream_server.api.app import create_app
from hidream_server.api.converting import Converting
from hidream_server.api.counting import Counting
from hidream_server.api.feed import Feed
from hidream_server.api.following import Following
from hidream_server.api.keyring import Keyring, LinkSigner
from hidream_server.api.limits import Limits
from hidream_server.api.services import Services
from hidream_server.cli.deciding import decide
from hidream_server.cli.event_loop import run_loop, spare_collector
from hidream_server.cli.groups import new_engine
from hidream_server.cli.http_server import HttpServer
from hidream_server.cli.instance import claim_instance
from hidream_server.cli.listener import bind
from hidream_server.cli.open_files import allow_connections
from hidream_server.cli.serving import Serving
from hidream_server.cli.stores import open_stores
from hidream_server.cli.tracing import Tracing
from hidream_server.cli.webhooks import new_deliverer
from hidream_server.engine.replicas import Replicas
from hidream_server.errors import HiDreamError
from hidream_server.logs import end_startup_log, set_up_logs
from hidream_server.metrics.metrics import Metrics
from hidream_server.observer import Observers
from hidream_server.queue.deliverer import Deliverer
from hidream_server.queue.housekeeping import Housekeeper
from hidream_server.settings import Settings
from hidream_server.store.batches import BatchStore
from hidream_server.store.files import FileStore
from hidream_server.store.keys import KeyStore
from hidream_server.store.secrets import secret

logger = logging.getLogger(__name__)

#: How often the housekeeper looks whether there is something to be done, in seconds.
_TIDY_S = 5.0

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_server(settings: Settings) -> None:
    """Serve until a signal comes and the tasks are drained."""
    # A signal that comes too early waits until there is something that can be stopped in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    serving = decide(settings)
    with claim_instance(settings.data_dir):
        shutil.rmtree(serving.project_work, ignore_errors=True)
        if serving.project is not None:
            serving.project_work.mkdir()
        listener = bind(settings.host, settings.port)
        startup = set_up_logs(
            settings.log_dir,
            settings.log_level,
            settings.log_file_mb * 2**20,
            settings.log_format,
        )
        serving.announce()
        allow_connections(settings.max_connections)
        with _logging_mistakes():
            run_loop(_serve(serving, listener, startup))
        logger.info("Stopped")


@contextlib.contextmanager
def _logging_mistakes() -> Iterator[None]:
    """Let the log know where a mistake of the program's arose: the command line says only what."""
    try:
        yield
    except HiDreamError:
        raise
    except Exception:
        logger.critical("The server ends by a mistake of the program", exc_info=True)
        raise


async def _serve(serving: Serving, listener: socket.socket, startup: logging.Handler) -> None:
    metrics, tracing = Metrics(), Tracing(serving.settings.otlp_endpoint)
    observer = Observers(*metrics.observers, *tracing.observers)
    stores = open_stores(serving, observer)
    engine = new_engine(serving, stores, observer)
    signer = LinkSigner(secret(stores.database, "picture links"), serving.settings.link_lifetime_s)
    deliverer = new_deliverer(serving.settings, stores, signer)
    services = Services(
        settings=serving.settings,
        limits=Limits(serving.settings, serving.model),
        model=serving.model,
        devices=serving.devices,
        queue=stores.queue,
        results=stores.results,
        files=FileStore(stores.database),
        batches=BatchStore(stores.database),
        health=lambda: engine.health,
        following=Following(stores.queue),
        feed=Feed(stores.queue.history),
        counting=Counting(stores.queue),
        converting=Converting(),
        keyring=Keyring(stores.keys),
        signer=signer,
        metrics=metrics,
    )
    http = HttpServer(create_app(services, tracing.provider), serving.settings)
    logger.info("Listening on %s port %d", serving.settings.host, serving.settings.port)
    logger.info("The page: %s", _page_address(serving.settings))
    _warn_of_strangers(serving.settings.host, stores.keys)
    spare_collector()
    keeping = asyncio.create_task(_keep_house(stores.housekeeper))
    try:
        await _run(serving, http, engine, services.feed, deliverer, listener, startup)
    finally:
        keeping.cancel()
        stores.database.dispose()
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
    serving: Serving,
    http: HttpServer,
    engine: Replicas,
    feed: Feed,
    deliverer: Deliverer,
    listener: socket.socket,
    startup: logging.Handler,
) -> None:
    """Answer HTTP for as long as the engine lives, a drain included."""
    _stop_on_signals(engine, serving.settings.drain_timeout_s)
    answering = asyncio.create_task(http.serve(sockets=[listener]))
    working = asyncio.create_task(engine.run())
    delivering = asyncio.create_task(deliverer.run())
    starting = asyncio.create_task(_follow_startup(engine, startup))
    await asyncio.wait((answering, working), return_when=asyncio.FIRST_COMPLETED)
    engine.stop()
    await asyncio.wait((working,))
    starting.cancel()
    deliverer.stop()
    await feed.close()
    await delivering
    http.should_exit = True
    await answering
    working.result()


def _stop_on_signals(engine: Replicas, drain_s: float) -> None:
    """Drain on the first signal; hand everything back at once on the second."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        again = engine.stopping
        engine.stop(drain_s=0 if again else None)
        if again:
            logger.info("Stopping now")
        else:
            logger.info(
                "Stopping: %d running task(s) may finish, within %.0f s; a second signal hands"
                " them back to the queue now",
                engine.running,
                drain_s,
            )

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


async def _keep_house(housekeeper: Housekeeper) -> None:
    while True:
        await asyncio.to_thread(housekeeper.tidy)
        await asyncio.sleep(_TIDY_S)


async def _follow_startup(engine: Replicas, startup: logging.Handler) -> None:
    await engine.wait_ready()
    end_startup_log(startup)
