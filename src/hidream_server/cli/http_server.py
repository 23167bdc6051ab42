"""uvicorn as this server uses it: its bounds, its trust in proxies, TLS."""

import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from hidream_server.api.connections import BoundedConnection
from hidream_server.settings import Settings

#: How long open connections may go on after the last task, in seconds.
_CLOSE_GRACE_S = 5
#: A connection may be silent for so long: longer than clients pause between two questions.
_KEEP_ALIVE_S = 75


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: a signal drains the tasks first."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Anyone could say to be anyone else.
            proxy_headers=settings.trusted_proxies is not None,
            forwarded_allow_ips=settings.trusted_proxies or "",
            limit_concurrency=settings.max_connections or None,
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
            timeout_graceful_shutdown=_CLOSE_GRACE_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
