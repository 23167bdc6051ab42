"""The files under deploy/, read, and the tools that know what may stand in them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.npu"]
COMPOSE = [DEPLOY / name for name in ("compose.yaml", "compose.cuda.yaml", "compose.npu.yaml")]
UNIT = DEPLOY / "hidream.service"

#: The one folder of an image that is written to.
VOLUME = "/var/lib/hidream"
#: After the drain the ranks are asked to leave and then killed, 5 s each; and some to spare.
LEAVE_S = 15.0


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def load(path: Path) -> Any:
    return yaml.safe_load(read(path))


def tool(name: str) -> str:
    """Return a program that is installed beside this Python."""
    return str(Path(sys.executable).parent / name)


def program_or_skip(name: str) -> str:
    """Return a program beside this Python or of the system, administrators' programs included."""
    beside = str(Path(sys.executable).parent)
    places = os.pathsep.join((beside, os.environ.get("PATH", os.defpath), "/usr/sbin"))
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path) -> str:
    """Return what a program prints; fail with that if it complains."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def seconds(text: str) -> float:
    """Return the seconds of a time span like 60s, as compose and systemd write it."""
    found = re.fullmatch(r"(\d+)s?", text)
    assert found is not None, text
    return float(found[1])
