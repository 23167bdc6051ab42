"""Servers for the end-to-end tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A warm server on the demo model, shared by the tests that do it no harm."""
    shared = Server(tmp_path_factory.mktemp("server"))
    shared.start()
    shared.wait_for("/readyz")
    yield shared
    code = shared.stop()
    shared.clean_up()
    assert code == 0


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Make servers that a test may do anything to; they are started by the test."""
    made: list[Server] = []

    def make(*options: str, **environment: str) -> Server:
        made.append(Server(tmp_path / f"server{len(made)}", options, environment))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()
