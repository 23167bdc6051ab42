"""Tells other processes on the same PostgreSQL that there may be news: a hint, and no more.

Whoever misses one finds out by looking, as it does anyway now and then. Knows no table.
"""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from psycopg import Connection as PsycopgConnection

logger = logging.getLogger(__name__)

#: News: there is more to be claimed; something was written that those may want who follow it. Any
#: other is the id of a task that has ended.
QUEUED, MOVED = "queued", "moved"
_CHANNEL = "hidream"
_NOTIFY = text("SELECT pg_notify(:channel, :news)")
#: A connection that was lost is made again after so many seconds.
_AGAIN_S = 1.0


def hint(connection: Connection, *news: str) -> None:
    """Let others know once this transaction is committed; on SQLite there are no others."""
    if connection.dialect.name == "postgresql":
        for one in news:
            connection.execute(_NOTIFY, {"channel": _CHANNEL, "news": one})


class Hints:
    """Hears what others, and this process too, let be known; from a thread of its own."""

    def __init__(self, url: str, on_news: Callable[[str], object]) -> None:
        self._url = url
        self._on_news = on_news
        self._connection: PsycopgConnection | None = None
        self._closed = threading.Event()
        #: Set while it hears.
        self.listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if (connection := self._connection) is not None:
            connection.cancel_safe()
            connection.close()

    def _run(self) -> None:
        from psycopg import Error

        while not self._closed.is_set():
            try:
                self._listen()
            except Error as error:
                if not self._closed.is_set():
                    logger.debug("No hints until the database is back: %s", error)
            self.listening.clear()
            self._closed.wait(_AGAIN_S)

    def _listen(self) -> None:
        from psycopg import connect

        with connect(self._url, autocommit=True, connect_timeout=5) as self._connection:
            self._connection.execute(f"LISTEN {_CHANNEL}")
            self.listening.set()
            # What came before nobody has heard.
            self._on_news(QUEUED)
            for notification in self._connection.notifies():
                self._on_news(notification.payload)
