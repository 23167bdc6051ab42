"""What the files under deploy/ say of the server is true of it: options, port, time to stop."""

import re
from pathlib import Path

import pytest

from hidream_server.settings import Settings, load_settings, options
from tests.deploy.files import COMPOSE, DEPLOY, DOCKERFILES, LEAVE_S, UNIT, load, read, seconds

FILES = sorted(
    path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts
)
OPTIONS = {name for option in options() for name in option.env}
DRAIN_S = Settings().drain_timeout_s


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_variable_of_ours_is_an_option(path: Path) -> None:
    assert set(re.findall(r"HIDREAM_[A-Z_]+", read(path))) <= OPTIONS


def test_the_variables_are_looked_for_where_they_are() -> None:
    named = [path.name for path in FILES if "HIDREAM_" in read(path)]
    assert {"Dockerfile", "compose.yaml", "example.env", "hidream.service"} <= set(named)


def test_every_value_of_the_example_is_one_the_server_takes() -> None:
    lines = read(DEPLOY / "example.env").splitlines()
    pairs = (re.fullmatch(r"(?:# )?(HIDREAM_[A-Z_]+)=(.+)", line) for line in lines)
    environ = {pair[1]: pair[2] for pair in pairs if pair}
    assert len(environ) >= 5
    load_settings({}, environ=environ)


def test_all_ports_are_the_default_one() -> None:
    port = Settings().port
    for dockerfile in DOCKERFILES:
        assert re.findall(r"^EXPOSE (.*)$", read(dockerfile), re.MULTILINE) == [str(port)]
    [published] = load(COMPOSE[0])["services"]["hidream"]["ports"]
    assert published.endswith(f":{port}")
    assert f"server hidream:{port};" in read(DEPLOY / "nginx.conf")
    assert f'get("HIDREAM_PORT") or {port})' in read(DEPLOY / "healthcheck.py")


def test_whoever_stops_the_server_waits_longer_than_it_drains() -> None:
    hidream = load(COMPOSE[0])["services"]["hidream"]
    assert seconds(hidream["stop_grace_period"]) >= DRAIN_S + LEAVE_S
    [of_unit] = re.findall(r"^TimeoutStopSec=(.*)$", read(UNIT), re.MULTILINE)
    assert seconds(of_unit) >= DRAIN_S + LEAVE_S
    pod = load(DEPLOY / "kubernetes" / "base" / "deployment.yaml")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= DRAIN_S + LEAVE_S
