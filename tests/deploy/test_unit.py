"""The unit of systemd: valid, and made for a server whose ranks have to outlive its SIGTERM."""

import re
from pathlib import Path

import pytest

from hidream_server.settings import Settings
from tests.deploy.files import UNIT, program_or_skip, read, run

SETTINGS = dict(re.findall(r"^(\w+)=(.*)$", read(UNIT), re.MULTILINE))


def verify(unit: Path) -> str:
    return run(program_or_skip("systemd-analyze"), "verify", unit)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as it is where the program is installed."""
    unit = tmp_path / UNIT.name
    unit.write_text(read(UNIT).replace("/opt/hidream/bin/hidream serve", "/bin/true"))
    return unit


def test_systemd_takes_it(installed: Path) -> None:
    assert verify(installed) == ""


def test_what_systemd_does_not_know_is_found(installed: Path) -> None:
    installed.write_text(read(installed).replace("KillMode=mixed", "KillMode=mild"))
    assert "Failed to parse kill mode" in verify(installed)


def test_only_the_server_is_told_to_stop() -> None:
    assert SETTINGS["KillMode"] == "mixed"
    assert SETTINGS["KillSignal"] == "SIGTERM"


def test_it_is_started_again_after_a_mistake_only() -> None:
    assert SETTINGS["Restart"] == "on-failure"


def test_it_may_have_as_many_connections_as_the_server_takes() -> None:
    assert int(SETTINGS["LimitNOFILE"]) > Settings().max_connections


def test_its_folders_are_those_that_systemd_makes() -> None:
    environment = re.findall(
        r"(\w+)=(/\S+)", " ".join(re.findall(r"^Environment=(.*)$", read(UNIT), re.M))
    )
    made = {
        f"/var/lib/{SETTINGS['StateDirectory']}",
        f"/var/cache/{SETTINGS['CacheDirectory']}",
        f"/var/log/{SETTINGS['LogsDirectory']}",
    }
    assert len(environment) >= 6
    for name, folder in environment:
        assert any(Path(folder).is_relative_to(place) for place in made), name
