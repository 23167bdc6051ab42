"""Servers for the end-to-end tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.server import Server

#: One image a step: then a picture's bytes depend on no company.
BY_ITSELF = {"HIDREAM_MAX_ROWS": "1"}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A warm server on the demo model, shared by the tests that do it no harm."""
    shared = Server(tmp_path_factory.mktemp("server"), environment=BY_ITSELF)
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
        folder = tmp_path / f"server{len(made)}"
        made.append(Server(folder, options, BY_ITSELF | environment))
        return made[-1]

    yield make
    for each in made:
        each.clean_up()
