"""Fixtures shared by the tests."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.e2e.server import Server, share_profiles
from tests.e2e.warm import WarmServers
from tests.postgresql import Postgresql
from tests.s3 import S3
from tests.support import fast_copy

# Before torch is imported. One thread, here and in every server that a test starts: sums are then
# made in the same order everywhere, and two cores serve several processes.
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

# How long an example takes says more about the machine than about the code.
# Its parent is named because Hypothesis takes a less curious one where CI is set.
settings.register_profile("unhurried", settings.get_profile("default"), deadline=None)
settings.load_profile("unhurried")

#: One image a step: then a picture's bytes depend on no company.
BY_ITSELF = {"HIDREAM_MAX_ROWS": "1"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what a test has printed travel between processes, whatever it is."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def fast_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Fast-style checkpoint (FlowMatchLCM); its Llama lies beside it as Llama-Demo."""
    return fast_copy(tmp_path_factory.mktemp("fast"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL server that is there for all tests; they make databases of their own."""
    with Postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An S3 server that is there for all tests, and runs at the start of each; they make buckets.

    The environment leads there.
    """
    s3_server.start()
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests' servers know of the model: the first with a layout finds it out for all."""
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[Server]:
    """A warm server on the demo model, shared by the tests that do it no harm."""
    shared = Server(tmp_path_factory.mktemp("server"), environment=BY_ITSELF)
    share_profiles(shared.folder / "var", profiles)
    shared.start()
    shared.wait_for("/readyz")
    yield shared
    code = shared.stop()
    shared.clean_up()
    assert code == 0


@contextmanager
def servers(folder: Path, profiles: Path) -> Iterator[Callable[..., Server]]:
    """Make servers, each in a folder of its own, and leave none behind."""
    made: list[Server] = []

    def make(*options: str, **environment: str) -> Server:
        made.append(Server(folder / f"server{len(made)}", options, BY_ITSELF | environment))
        share_profiles(made[-1].folder / "var", profiles)
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.clean_up()


@pytest.fixture
def new_server(tmp_path: Path, profiles: Path) -> Iterator[Callable[..., Server]]:
    """Make servers that a test may do anything to; they are started by the test."""
    with servers(tmp_path, profiles) as make:
        yield make


@pytest.fixture(scope="module")
def warm_server(
    tmp_path_factory: pytest.TempPathFactory, profiles: Path
) -> Iterator[Callable[..., Server]]:
    """Get warm servers that tests may do anything to which they get over by themselves."""
    with servers(tmp_path_factory.mktemp("warm"), profiles) as make:
        warm = WarmServers(make)
        yield warm.get
        warm.stop()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mixed-s", type=float, default=8.0, help="how long the mixed clients go on, in seconds"
    )

    parser.addoption(
        "--screenshots", action="store_true", help="take the pictures of the page in docs/ anew"
    )
    parser.addoption(
        "--soak", action="store_true", help="run what takes many minutes, too: the soak"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        slow = pytest.mark.skip(reason="takes many minutes: --soak")
        for item in items:
            if "soak" in item.keywords:
                item.add_marker(slow)


@pytest.fixture
def mixed_s(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--mixed-s"))
