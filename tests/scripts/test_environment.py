"""The start script's environment: what it installs, keeps and refuses. Its Python is a stand-in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

#: Answers as a Python of an environment would, and writes down what it was asked to do.
STAND_IN = """#!/bin/bash
if [ "$1 $2" = "-m pip" ]; then echo "pip ${*:3}" >>"{log}"; exit 0; fi
if [ "$1 $2" = "-m hidream_server" ]; then echo "hidream ${*:3}" >>"{log}"; exit 0; fi
case "$*" in
    *"m.version('torch')"*) cat "{env}/torch" 2>/dev/null; exit 0 ;;
    *"m.version('torch_npu')"*) exit 0 ;;
    *sys.prefix*) echo "{env}"; exit 0 ;;
esac
exec {python} "$@"
"""


class Checkout:
    """A copy of the scripts with an active environment of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.root, self.environment = folder / "checkout", folder / "environment"
        self.log = folder / "log"
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for name in ("constraints.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root)
        (self.environment / "bin").mkdir(parents=True)
        python = self.environment / "bin" / "python"
        filled = STAND_IN.replace("{log}", str(self.log)).replace("{env}", str(self.environment))
        python.write_text(filled.replace("{python}", sys.executable))
        python.chmod(0o755)

    def has_torch(self, version: str) -> None:
        (self.environment / "torch").write_text(version)

    def start(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        active = {"VIRTUAL_ENV": str(self.environment), "PATH": os.environ["PATH"]}
        return subprocess.run(
            ["bash", self.root / "scripts" / "start_hidream_service.sh", *options],
            env=active | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def done(self) -> list[str]:
        """Return what has been done since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_start_installs_torch_first_then_the_project_and_serves(
    checkout: Checkout,
) -> None:
    done = checkout.start("--port", "8089")
    assert done.returncode == 0, done.stderr
    torch, project, serve = checkout.done()
    assert torch.endswith("torch")
    assert project.endswith(f"-e {checkout.root}")
    assert serve == "hidream serve --port 8089"


def test_a_second_start_installs_nothing(checkout: Checkout) -> None:
    checkout.start()
    checkout.has_torch("2.13.0")
    checkout.done()
    assert checkout.start().returncode == 0
    assert checkout.done() == ["hidream serve"]


def test_a_start_after_the_pins_have_changed_installs_again(checkout: Checkout) -> None:
    checkout.start()
    checkout.has_torch("2.13.0")
    checkout.done()
    with (checkout.root / "constraints.txt").open("a") as constraints:
        constraints.write("something-new==1\n")
    checkout.start()
    project, serve = checkout.done()
    assert project.endswith(f"-e {checkout.root}")
    assert serve == "hidream serve"


def test_a_torch_that_was_removed_is_installed_again(checkout: Checkout) -> None:
    checkout.start()
    checkout.done()
    checkout.start()
    assert checkout.done()[0].endswith("torch")


@pytest.mark.parametrize("version", ["2.12.0", "2.13.1+cu130", "2.14.0"])
def test_a_torch_in_the_supported_range_is_kept(checkout: Checkout, version: str) -> None:
    checkout.has_torch(version)
    assert checkout.start().returncode == 0
    project, serve = checkout.done()
    assert project.endswith(f"-e {checkout.root}")
    assert serve == "hidream serve"


@pytest.mark.parametrize("version", ["2.11.1", "2.15.0", "1.13.1"])
def test_another_torch_is_refused_in_one_sentence(checkout: Checkout, version: str) -> None:
    checkout.has_torch(version)
    done = checkout.start()
    assert done.returncode == 1
    assert checkout.done() == []
    assert done.stderr.count("\n") == 1
    assert f"torch {version}" in done.stderr
    assert ">=2.12,<2.15" in done.stderr


def test_an_environment_that_could_not_be_made_is_not_taken_for_one(
    checkout: Checkout, tmp_path: Path
) -> None:
    """As on Debian without its venv package: half of it is made, then it fails."""
    folder = tmp_path / "path"
    folder.mkdir()
    broken = folder / "python3.13"
    broken.write_text(
        "#!/bin/bash\n"
        'if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; touch "$3/bin/python"; exit 1; fi\n'
    )
    broken.chmod(0o755)
    for _ in range(2):
        done = checkout.start(VIRTUAL_ENV="", PATH=f"{folder}:{os.environ['PATH']}")
        assert done.returncode == 1
        assert "install its venv package" in done.stderr
        assert not (checkout.root / ".venv").exists()


def test_an_environment_is_made_without_a_start(checkout: Checkout) -> None:
    checkout.has_torch("2.13.0")
    done = checkout.start("--install")
    assert done.returncode == 0, done.stderr
    assert "/bin/hidream doctor" in done.stderr
    assert not [line for line in checkout.done() if line.startswith("hidream ")]
