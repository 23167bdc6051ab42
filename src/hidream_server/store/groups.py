"""The worker groups of all machines, as each says of itself now and then.

Knows nothing of what a group is; one that has said nothing for a while is gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from hidream_server.store.database import Database
from hidream_server.store.tables import worker_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGroup:
    """What a group says of itself. Times are seconds since the epoch, UTC."""

    id: str
    machine: str
    version: str
    #: What it serves.
    model: Mapping[str, Any]
    #: On what.
    devices: Mapping[str, Any]
    #: How it is.
    health: Mapping[str, Any]
    #: How long things take it.
    pace: Mapping[str, Any]
    #: The ids of the tasks that it has on hand.
    tasks: Sequence[str]
    joined_at: float
    seen_at: float


class GroupStore:
    """Groups by their ids, which outlive processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def say(self, groups: Sequence[KnownGroup]) -> None:
        """Write down how groups are; each is written by its own process only."""
        with self._database.write() as connection:
            for group in groups:
                row = {name: getattr(group, name) for name in group.__slots__}
                known = update(worker_groups).where(worker_groups.c.id == group.id)
                if not connection.execute(known.values(row)).rowcount:
                    connection.execute(insert(worker_groups), row)

    def seen(self, since: float) -> list[KnownGroup]:
        """Return the groups that said something since a time, those first that joined first."""
        query = select(worker_groups).where(worker_groups.c.seen_at >= since)
        query = query.order_by(worker_groups.c.joined_at, worker_groups.c.id)
        with self._database.read() as connection:
            return [_to_group(row) for row in connection.execute(query)]

    def leave(self, ids: Sequence[str]) -> None:
        """Forget groups that are stopped in order."""
        with self._database.write() as connection:
            connection.execute(delete(worker_groups).where(worker_groups.c.id.in_(ids)))

    def forget(self, before: float) -> int:
        """Forget groups that have said nothing since a time; say how many."""
        with self._database.write() as connection:
            statement = delete(worker_groups).where(worker_groups.c.seen_at < before)
            return connection.execute(statement).rowcount


def _to_group(row: Row[Any]) -> KnownGroup:
    return KnownGroup(**row._mapping)
