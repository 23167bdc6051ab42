"""The compose files: valid, locked down, and made for each other."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import COMPOSE, DEPLOY, VOLUME, load, run, tool

BASE = load(COMPOSE[0])
SERVICES: dict[str, Any] = BASE["services"]


def check(*paths: Path) -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *paths)


def test_the_files_are_valid() -> None:
    check(*COMPOSE)


def test_an_invalid_file_is_found(tmp_path: Path) -> None:
    bad = tmp_path / "compose.yaml"
    bad.write_text("services: {hidream: {read_onyl: true}}\n")
    with pytest.raises(AssertionError, match="read_onyl"):
        check(bad)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.split(":")[0] == "/tmp" for mount in service["tmpfs"])


def test_the_server_writes_into_its_volume_only() -> None:
    mounts = [mount.rsplit(":", 2) for mount in SERVICES["hidream"]["volumes"]]
    assert [mount[-1] for mount in mounts if mount[-1] != "ro"] == [VOLUME]


def test_who_is_not_asked_for_is_not_started() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles == {"hidream": [], "nginx": ["tls"], "postgresql": ["postgresql"]}


def test_nginx_alone_is_believed() -> None:
    addresses = {
        name: service["networks"]["default"]["ipv4_address"]
        for name, service in SERVICES.items()
        if "networks" in service
    }
    trusted = SERVICES["hidream"]["environment"]["HIDREAM_TRUSTED_PROXIES"]
    assert trusted == f"${{HIDREAM_TRUSTED_PROXIES:-{addresses['nginx']}}}"
    [network] = BASE["networks"]["default"]["ipam"]["config"]
    for address in addresses.values():
        assert ip_address(address) in ip_network(network["subnet"])
        # Else another container might be given it while its owner is away.
        assert ip_address(address) not in ip_network(network["ip_range"])


@pytest.mark.parametrize("path", COMPOSE[1:], ids=lambda path: path.name)
def test_cards_change_the_server_alone(path: Path) -> None:
    assert load(path)["services"].keys() == {"hidream"}


def test_what_is_mounted_from_here_is_here() -> None:
    assert "./nginx.conf:/etc/nginx/nginx.conf:ro" in SERVICES["nginx"]["volumes"]
    assert (DEPLOY / "nginx.conf").is_file()
