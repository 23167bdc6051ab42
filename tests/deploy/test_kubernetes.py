"""The manifests: valid, locked down, and asking routes that exist."""

from typing import Any

import kubernetes_validate
import pytest
import yaml

from hidream_server.api import health
from tests.deploy.files import DEPLOY, VOLUME, load, program_or_skip, read, run

FOLDER = DEPLOY / "kubernetes"
BASE = FOLDER / "base"
OVERLAYS = ("cuda", "npu")
DEPLOYMENT = load(BASE / "deployment.yaml")
POD: dict[str, Any] = DEPLOYMENT["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]


def validate(documents: str) -> list[str]:
    """Return the kinds of all documents; raise for what the API would not take or not know."""
    kinds = []
    for document in yaml.safe_load_all(documents):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        kinds.append(document["kind"])
    return kinds


def rendered(name: str) -> str:
    return run(program_or_skip("kubectl"), "kustomize", FOLDER / name)


@pytest.mark.parametrize("name", ["service.yaml", "volumes.yaml"])
def test_the_base_is_valid(name: str) -> None:
    assert validate(read(BASE / name))


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_all_is_valid_when_it_is_put_together(name: str) -> None:
    kinds = validate(rendered(name))
    assert sorted(kinds) == ["Deployment", *["PersistentVolumeClaim"] * 2, "Service"]


def test_an_unknown_field_is_found() -> None:
    service = load(BASE / "service.yaml")
    service["spec"]["publishNotReady"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="publishNotReady"):
        validate(yaml.safe_dump(service))


@pytest.mark.parametrize(
    ("name", "resource"), [("cuda", "nvidia.com/gpu"), ("npu", "huawei.com/Ascend910")]
)
def test_cards_are_asked_for(name: str, resource: str) -> None:
    documents = yaml.safe_load_all(rendered(name))
    [pod] = (each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Deployment")
    [container] = pod["containers"]
    assert container["image"] == f"hidream-server:{name}"
    assert container["resources"]["limits"][resource] == "1"
    # What the base says of the container and its volumes is still said.
    assert container["securityContext"] == CONTAINER["securityContext"]
    assert {volume["name"] for volume in POD["volumes"]} <= {
        each["name"] for each in pod["volumes"]
    }


def test_there_is_never_a_second_server_on_one_folder() -> None:
    assert DEPLOYMENT["spec"]["replicas"] == 1
    assert DEPLOYMENT["spec"]["strategy"] == {"type": "Recreate"}


def test_the_probes_ask_routes_that_exist() -> None:
    routes = {route.path for route in health.router.routes}
    asked = {probe: CONTAINER[probe]["httpGet"] for probe in CONTAINER if probe.endswith("Probe")}
    assert {probe: get["path"] for probe, get in asked.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert {get["path"] for get in asked.values()} <= routes
    assert {get["port"] for get in asked.values()} == {CONTAINER["ports"][0]["name"]}


def test_the_environment_has_no_options_of_the_cluster() -> None:
    """A Service named hidream would become HIDREAM_PORT, which is an option of the server."""
    assert load(BASE / "service.yaml")["metadata"]["name"] == "hidream"
    assert POD["enableServiceLinks"] is False


def test_the_pod_is_locked_down() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_what_is_written_has_a_volume() -> None:
    writable = {
        mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly")
    }
    assert writable == {VOLUME, "/tmp", "/dev/shm"}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {
        volume["name"] for volume in POD["volumes"]
    }


def test_no_namespace_is_named() -> None:
    paths = sorted(FOLDER.rglob("*.yaml"))
    documents = [each for path in paths for each in yaml.safe_load_all(read(path))]
    assert len(documents) >= len(paths) >= 8
    for document in documents:
        assert "namespace" not in document.keys() | document.get("metadata", {}).keys()
