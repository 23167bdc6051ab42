"""API keys in the database, as keyed hashes."""

from typing import Any

from sqlalchemy import Row, func, insert, select, update

from hidream_server.keys import ApiKey, KeyLimits, Scope, digest, new_key
from hidream_server.store.database import Database
from hidream_server.store.secrets import secret
from hidream_server.store.tables import api_keys
from hidream_server.task import Priority


class KeyStore:
    """The keys of this service; from the first one on nothing is answered without one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pepper = secret(database, "api keys")

    def create(self, name: str, scope: Scope, limits: KeyLimits, now: float) -> tuple[ApiKey, str]:
        """Make a key; return it, and its text, which cannot be had again."""
        key_id, text = new_key()
        key = ApiKey(id=key_id, name=name, scope=scope, limits=limits, created_at=now)
        row = {
            "id": key_id,
            "name": name,
            "digest": digest(text, self._pepper),
            "scope": scope,
            "created_at": now,
            "max_queued": limits.max_queued,
            "max_running": limits.max_running,
            "max_images_per_minute": limits.max_images_per_minute,
            "weight": limits.weight,
            "priority": limits.priority,
        }
        with self._database.write() as connection:
            connection.execute(insert(api_keys), row)
        return key, text

    def revoke(self, key_id: str, now: float) -> bool:
        """Let a key be good for nothing from now on; False if there is none that is."""
        statement = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with self._database.write() as connection:
            return connection.execute(statement.values(revoked_at=now)).rowcount == 1

    def all(self) -> list[ApiKey]:
        """Return all keys that there ever were, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at))
            return [_to_key(row) for row in rows]

    def count(self) -> int:
        """Return how many keys there ever were: a service whose keys are revoked is not open."""
        with self._database.read() as connection:
            return connection.scalar(select(func.count()).select_from(api_keys)) or 0

    def find(self, text: str) -> ApiKey | None:
        """Return the key that has this text, if it is good for something."""
        query = select(api_keys).where(
            api_keys.c.digest == digest(text, self._pepper), api_keys.c.revoked_at.is_(None)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _to_key(row)


def _to_key(row: Row[Any]) -> ApiKey:
    limits = KeyLimits(
        max_queued=row.max_queued,
        max_running=row.max_running,
        max_images_per_minute=row.max_images_per_minute,
        weight=row.weight,
        priority=Priority(row.priority),
    )
    return ApiKey(
        id=row.id,
        name=row.name,
        scope=Scope(row.scope),
        limits=limits,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
