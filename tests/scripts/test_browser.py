"""The tests' own browser: when it is installed, and when not. All other programs are stand-ins."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "browser.sh"


class Machine:
    """A PATH with these programs and no others."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "path"
        self._path.mkdir()
        self._log = folder / "log"
        self.has("id", "echo 0")

    def has(self, name: str, script: str = "") -> None:
        program = self._path / name
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(0o755)

    def has_apt_get(self, failing: str = "nothing") -> None:
        outcome = f'echo "a line of apt"; [[ "$*" != *{failing}* ]]'
        self.has("apt-get", f'echo "$*" >>{self._log}; {outcome}')

    def prepare(self) -> str:
        """Prepare the browser as run_tests.sh does; return what was said."""
        said = 'say() { echo "$*" >&2; }'
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", f"{said}; source {SCRIPT}; prepare_browser"],
            env={"PATH": str(self._path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stderr

    def installed(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_a_browser_gets_one_and_fonts(machine: Machine) -> None:
    machine.has_apt_get()
    assert machine.prepare().count("\n") == 1
    update, install = machine.installed()
    assert update.endswith("update")
    assert install.endswith("chromium fonts-dejavu-core fonts-wqy-microhei")


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_that_is_there_is_kept(machine: Machine, name: str) -> None:
    machine.has_apt_get()
    machine.has(name)
    assert machine.prepare() == ""
    assert machine.installed() == []


def test_only_root_installs(machine: Machine) -> None:
    machine.has_apt_get()
    machine.has("id", "echo 1000")
    assert machine.prepare() == ""
    assert machine.installed() == []


def test_without_apt_get_the_tests_go_on(machine: Machine) -> None:
    assert machine.prepare() == ""


@pytest.mark.parametrize("failing", ["update", "install"])
def test_an_installation_that_fails_is_said_and_the_tests_go_on(
    machine: Machine, failing: str
) -> None:
    machine.has_apt_get(failing)
    assert machine.prepare().endswith("no Chromium could be installed; the lines above say why.\n")


def test_the_lines_of_an_installation_that_failed_are_shown(machine: Machine) -> None:
    machine.has_apt_get(failing="install")
    assert "a line of apt\n" in machine.prepare()
