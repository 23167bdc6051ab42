"""A real HTTP server on loopback, in a thread of the tests' own process."""

import contextlib
import threading
from collections.abc import Iterator

from starlette.types import ASGIApp

from hidream_server.cli.event_loop import run_loop
from hidream_server.cli.http_server import HttpServer
from hidream_server.cli.listener import bind
from hidream_server.settings import Settings


@contextlib.contextmanager
def http_server(app: ASGIApp, settings: Settings) -> Iterator[int]:
    """Serve an app while inside; the value is the port. Clients must close their connections."""
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = HttpServer(app, settings)
    thread = threading.Thread(target=lambda: run_loop(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()
