"""Makes, lists and revokes API keys, in the database that the settings name."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime

import typer

from hidream_server.cli.stores import open_database
from hidream_server.cli.webhooks import webhook_secrets
from hidream_server.errors import KeyNotFoundError
from hidream_server.keys import ApiKey, KeyLimits, Scope
from hidream_server.settings import Settings
from hidream_server.store.database import Database
from hidream_server.store.keys import KeyStore


def create_key(
    settings: Settings, name: str, scope: Scope, limits: KeyLimits, as_json: bool
) -> None:
    """Make a key and print its text, which cannot be seen again."""
    with _keys(settings) as keys:
        key, text = keys.create(name, scope, limits, time.time())
    if as_json:
        typer.echo(json.dumps({**_as_json(key), "key": text}))
        return
    typer.echo(f"Key {key.id} for {name} was made. Its text is shown only now:", err=True)
    typer.echo(text)


def list_keys(settings: Settings, as_json: bool) -> None:
    """Print all keys, those too that were revoked; as JSON one a line."""
    with _keys(settings) as keys:
        found = keys.all()
    if as_json:
        for key in found:
            typer.echo(json.dumps(_as_json(key)))
        return
    if not found:
        typer.echo("There is no key: whoever reaches the service may use it.", err=True)
    for key in found:
        typer.echo(_line(key))


def revoke_key(settings: Settings, key_id: str) -> None:
    """Let a key be good for nothing; raise KeyNotFoundError if there is none that is."""
    with _keys(settings) as keys:
        if not keys.revoke(key_id, time.time()):
            raise KeyNotFoundError(f"There is no key {key_id} that could be revoked.")
    typer.echo(f"Key {key_id} was revoked; running servers know within seconds.", err=True)


def print_webhook_secret(settings: Settings, key_id: str | None) -> None:
    """Print what a key's webhooks are signed with; those of everybody where there is no key."""
    with _database(settings) as database:
        if key_id is not None and key_id not in [key.id for key in KeyStore(database).all()]:
            raise KeyNotFoundError(f"There is no key {key_id}.")
        typer.echo(webhook_secrets(database)(key_id or ""))


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = open_database(settings)
    try:
        yield database
    finally:
        database.dispose()


@contextmanager
def _keys(settings: Settings) -> Iterator[KeyStore]:
    with _database(settings) as database:
        yield KeyStore(database)


def _as_json(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "limits": asdict(key.limits),
    }


def _line(key: ApiKey) -> str:
    made = datetime.fromtimestamp(key.created_at, UTC).date()
    limits = key.limits
    own = {
        "max-queued": limits.max_queued,
        "max-running": limits.max_running,
        "max-images-per-minute": limits.max_images_per_minute,
        "weight": limits.weight if limits.weight != 1 else None,
        "priority": limits.priority if limits.priority != KeyLimits().priority else None,
    }
    about = " ".join(f"{name}={value}" for name, value in own.items() if value is not None)
    state = "good" if key.revoked_at is None else "revoked"
    return "  ".join(
        (key.id, key.scope.ljust(8), str(made), state.ljust(7), key.name, about)
    ).rstrip()
