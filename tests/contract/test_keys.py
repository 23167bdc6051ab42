"""What every database does with keys and secrets."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hidream_server.keys import KeyLimits, Scope, is_key
from hidream_server.store.database import Database
from hidream_server.store.keys import KeyStore
from hidream_server.store.secrets import secret
from hidream_server.task import Priority

LIMITS = KeyLimits(
    max_queued=3, max_running=0, max_images_per_minute=7, weight=0.5, priority=Priority.LOW
)


@pytest.fixture
def keys(database: Database) -> KeyStore:
    return KeyStore(database)


def test_a_key_is_found_by_its_text_as_it_was_made(keys: KeyStore):
    assert keys.count() == 0
    key, text = keys.create("Ännchen", Scope.ADMIN, LIMITS, 5.0)
    assert is_key(text)
    assert keys.find(text) == key
    assert (key.name, key.scope, key.limits, key.created_at) == ("Ännchen", "admin", LIMITS, 5.0)
    assert keys.find(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    assert keys.count() == 1


def test_keys_are_all_different(keys: KeyStore):
    made = [keys.create("a", Scope.GENERATE, KeyLimits(), 1.0) for _ in range(20)]
    assert len({key.id for key, _ in made}) == len({text for _, text in made}) == 20
    assert [key.id for key in keys.all()] == [key.id for key, _ in made]


def test_a_revoked_key_is_found_no_more_but_known(keys: KeyStore):
    key, text = keys.create("a", Scope.GENERATE, KeyLimits(), 1.0)
    assert keys.revoke(key.id, 9.0)
    assert keys.find(text) is None
    assert not keys.revoke(key.id, 10.0)
    assert not keys.revoke("nobody", 10.0)
    assert [known.revoked_at for known in keys.all()] == [9.0]
    assert keys.count() == 1


def test_all_servers_of_a_database_have_the_same_secrets_and_keys(
    new_databases: Callable[[], Callable[[], Database]],
):
    open_database = new_databases()
    databases = [open_database() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda database: secret(database, "links"), databases))
    assert len(set(drawn)) == 1
    assert len(drawn[0]) == 32
    assert secret(databases[0], "others") != drawn[0]
    key, text = KeyStore(databases[0]).create("a", Scope.GENERATE, KeyLimits(), 1.0)
    assert KeyStore(databases[1]).find(text) == key
    for database in databases:
        database.dispose()
