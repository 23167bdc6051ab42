"""The databases that every contract is kept on."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from hidream_server.store.database import Database, open_postgresql
from tests.postgresql import Postgresql
from tests.support import new_database


@pytest.fixture(params=["sqlite", "postgresql"])
def new_databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Callable[[], Database]]:
    """Make an empty database; return a function that opens it, as often as it is called."""
    if request.param == "sqlite":
        return lambda: partial(new_database, tmp_path_factory.mktemp("store") / "tasks.db")
    postgresql: Postgresql = request.getfixturevalue("postgresql")
    return lambda: partial(open_postgresql, postgresql.new_database())


@pytest.fixture
def database(new_databases: Callable[[], Callable[[], Database]]) -> Iterator[Database]:
    database = new_databases()()
    yield database
    database.dispose()
