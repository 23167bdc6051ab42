"""What there is already when tasks of a client are to be added."""

from sqlalchemy import Connection, func, select

from hidream_server.store.history import Happened
from hidream_server.store.tables import history, tasks
from hidream_server.task import TaskState

#: So far back it is known how many images a client asked for, in seconds.
RATE_WINDOW_S = 60.0


_COUNT_QUEUED = select(func.count()).where(tasks.c.state == TaskState.QUEUED)


class Backlog:
    """Looked up when it is asked for, within one transaction."""

    def __init__(self, connection: Connection, client: str, now: float) -> None:
        self._connection = connection
        self._client = client
        self._now = now

    def queued(self) -> int:
        """Return how many tasks are queued."""
        return self._connection.scalar(_COUNT_QUEUED) or 0

    def client_queued(self) -> int:
        """Return how many of them are this client's."""
        return self._connection.scalar(_COUNT_QUEUED.where(tasks.c.client == self._client)) or 0

    def recent(self) -> list[tuple[float, int]]:
        """Return when this client asked for how many images within RATE_WINDOW_S, in order."""
        since = self._now - RATE_WINDOW_S
        # A task that was deleted meanwhile was asked for all the same.
        images = history.c.about["images"].as_integer()
        query = (
            select(history.c.at, images)
            .where(history.c.client == self._client, history.c.at > since)
            .where(history.c.what == Happened.QUEUED, images.is_not(None))
            .order_by(history.c.at)
        )
        return [(row[0], row[1]) for row in self._connection.execute(query)]
