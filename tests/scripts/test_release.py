"""What is released holds what it needs, and nothing else. A picture is made of it by hand:
scripts/check_release.sh."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    built = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_all_of_the_package_is_in_the_wheel(names: set[str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "src/hidream_server"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no clone")
    package = {name.removeprefix("src/") for name in listed.stdout.split()}
    assert package == {name for name in names if ".dist-info/" not in name}


def test_its_licence_and_those_of_others_go_along(names: set[str]) -> None:
    licences = {Path(name).name for name in names if "/licenses/" in name}
    assert {"LICENSE", "preact.LICENSE", "htm.LICENSE"} <= licences


def test_types_are_known_to_those_who_use_the_client(names: set[str]) -> None:
    assert "hidream_server/py.typed" in names


def test_the_checks_before_a_commit_are_well_formed() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config"]
    subprocess.run([*command, ROOT / ".pre-commit-config.yaml"], check=True, timeout=60)
