"""Secrets of this service, drawn once and shared by all servers on one database."""

import base64
import secrets as random

from sqlalchemy import insert, select

from hidream_server.store.database import Database
from hidream_server.store.tables import secrets

_BYTES = 32


def secret(database: Database, name: str) -> bytes:
    """Return the secret of this name: 32 random bytes, drawn when it is first asked for."""
    query = select(secrets.c.value).where(secrets.c.name == name)
    with database.read() as connection:
        value = connection.scalar(query)
    if value is None:
        with database.write(exclusive=True) as connection:
            value = connection.scalar(query)
            if value is None:
                value = base64.b64encode(random.token_bytes(_BYTES)).decode()
                connection.execute(insert(secrets), {"name": name, "value": value})
    return base64.b64decode(value)
