"""What a Ray cluster is told to serve: read by what reads it, and the same in both forms."""

from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from hidream_server.cli.cluster.application import application
from hidream_server.cli.cluster.config import Shared, Target, read_cluster_file
from tests.deploy.files import DEPLOY, ROOT, VOLUME, load, read

FILE = DEPLOY / "ray" / "hidream.yaml"
SERVICE = load(DEPLOY / "ray" / "kuberay.yaml")
SERVE = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
GROUPS: list[dict[str, Any]] = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


def test_the_example_is_read() -> None:
    file = read_cluster_file(FILE)
    assert [target.name for target in file.deployments] == ["full", "fast"]
    assert str(file.data_dir) == VOLUME


def test_what_the_service_serves_is_taken_by_ray_serve() -> None:
    read = ServeDeploySchema.model_validate(SERVE)
    assert {one.import_path for one in read.applications} == {
        "hidream_server.cli.cluster.application:application"
    }
    assert read.proxy_location == "Disabled"


def test_a_replica_lies_on_one_machine_with_room_for_its_supervisor_and_ranks() -> None:
    for one in SERVE["applications"]:
        deployment = application(one["args"])._bound_deployment
        assert deployment.name == one["args"]["name"]
        config = deployment._replica_config
        assert config.placement_group_strategy == "STRICT_PACK"
        ranks = [{"CPU": 1.0, "NPU": 1.0}] * one["args"]["devices"]
        assert config.placement_group_bundles == [{"CPU": 1.0}, *ranks]


def test_both_say_the_same() -> None:
    wanted = {target.name: target for target in read_cluster_file(FILE).deployments}
    assert {one["name"] for one in SERVE["applications"]} == {f"hidream-{n}" for n in wanted}
    for one in SERVE["applications"]:
        target = Target.model_validate(one["args"])
        like = wanted[target.name]
        assert not one["args"].keys() & Shared.model_fields.keys()
        for field in ("model", "extra_model", "device_type", "devices", "layout", "most"):
            assert getattr(target, field) == getattr(like, field)


@pytest.mark.parametrize("group", GROUPS, ids=("head", "workers"))
def test_the_pods_are_valid_and_locked_down(group: dict[str, Any]) -> None:
    spec = group["template"]["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    [container] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["enableServiceLinks"] is False


def test_the_workers_have_room_for_each_replica() -> None:
    [workers] = CLUSTER["workerGroupSpecs"]
    there = {
        "CPU": float(workers["rayStartParams"]["num-cpus"]),
        **yaml.safe_load(yaml.safe_load(workers["rayStartParams"]["resources"])),
    }
    for one in SERVE["applications"]:
        target = Target.model_validate(one["args"])
        for name in ("CPU", "NPU"):
            own = 1 if name == "CPU" else 0
            assert own + sum(bundle[name] for bundle in target.rank_bundles) <= there[name]


def test_the_version_is_the_one_that_is_installed() -> None:
    assert f"ray=={CLUSTER['rayVersion']}\n" in read(ROOT / "constraints.txt")
