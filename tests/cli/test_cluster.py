"""The file of a cluster, and what becomes of it; what is wrong in it is said in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from hidream_server.cli.cluster import control
from hidream_server.cli.cluster.config import read_cluster_file, settings_flags
from hidream_server.cli.commands import cluster as commands
from hidream_server.cli.instance import claim_free, instance_name
from hidream_server.errors import ClusterError, ConfigurationError, PathMissingError
from hidream_server.settings import load_settings
from tests.e2e.server import free_port

TARGET: dict[str, Any] = {"name": "full", "device_type": "npu", "devices": 2}


@pytest.fixture
def read(tmp_path: Path):
    def read(target: dict[str, Any] = TARGET, **rest: Any):
        file = tmp_path / "hidream.yaml"
        file.write_text(yaml.safe_dump({"deployments": [target], **rest}))
        return read_cluster_file(file)

    return read


def test_what_is_left_out_is_one_replica_and_what_the_environment_says(read):
    file = read()
    [target] = file.deployments
    assert (target.min_replicas, target.most) == (1, 1)
    assert file.database is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"device_type": "gpu"}, "deployments[0].device_type: "),
        ({"devices": 0}, "deployments[0].devices: "),
        (
            {"min_replicas": 3, "max_replicas": 2},
            "deployments[0]: max_replicas is less than min_replicas, 3",
        ),
        ({"name": "Full!"}, "deployments[0].name: "),
        ({"replica": 2}, "deployments[0].replica: "),
        ({"options": {"max_row": 2}}, "deployments[0].options: there is no option 'max_row'"),
        ({"options": {"max_rows": 99}}, "deployments[0].options: --max-rows cannot be 99"),
        ({"options": {"devices": "0,1"}}, "'devices' has a field of its own"),
        ({"options": {"nnodes": 2}}, "'nnodes' has a field of its own, or none"),
    ],
)
def test_a_field_that_cannot_be_is_named(read, fields, said):
    with pytest.raises(ConfigurationError) as caught:
        read(TARGET | fields)
    assert said in str(caught.value)
    assert "hidream.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shared", "said"),
    [
        ({"database": "mysql://host/name"}, "database: "),
        ({"database": "postgresql://me:secret@host/name"}, "database: no password"),
        ({"results": "ftp://host"}, "results: --results cannot be read"),
        ({"deployments": []}, "deployments: "),
        ({"deployments": [TARGET, TARGET]}, "two deployments are called 'full'"),
    ],
)
def test_so_is_what_all_share(read, shared, said):
    with pytest.raises(ConfigurationError) as caught:
        read(**shared)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_yaml_is_said_to_be_so(tmp_path):
    with pytest.raises(PathMissingError):
        read_cluster_file(tmp_path / "none.yaml")
    file = tmp_path / "broken.yaml"
    file.write_text("deployments: [")
    with pytest.raises(ConfigurationError, match="is not valid YAML"):
        read_cluster_file(file)


def test_each_rank_has_a_bundle_with_its_device(read):
    [target] = read().deployments
    assert target.rank_bundles == [{"CPU": 1.0, "NPU": 1.0}] * 2
    [target] = read(TARGET | {"device_type": "cpu", "cpus_per_device": 2}).deployments
    assert target.rank_bundles == [{"CPU": 2.0}] * 2


def test_a_replica_works_with_the_options_of_a_worker(read, tmp_path):
    file = read(TARGET | {"options": {"max_rows": 1}}, database="postgresql://h/n")
    settings = load_settings(settings_flags(file, file.deployments[0], tmp_path), environ={})
    assert settings.max_rows == 1
    assert settings.database_url == "postgresql://h/n"
    assert settings.data_dir == tmp_path


def test_what_the_file_leaves_out_the_environment_of_the_machine_says(read, tmp_path):
    file = read()
    environ = {"HIDREAM_DATABASE_URL": "postgresql://h/n", "HIDREAM_RESULTS": "s3://bucket"}
    settings = load_settings(settings_flags(file, file.deployments[0], tmp_path), environ=environ)
    assert settings.database_url == "postgresql://h/n"
    assert settings.results == "s3://bucket"


def test_each_replica_on_a_machine_has_a_folder_and_the_next_one_takes_over(tmp_path):
    first, lock = claim_free(tmp_path)
    second, other = claim_free(tmp_path)
    assert first != second
    name = instance_name(first)
    lock.close()
    again, lock = claim_free(tmp_path)
    assert again == first
    assert instance_name(again) == name
    lock.close()
    other.close()


def test_a_cluster_that_does_not_answer_is_said_not_to():
    with pytest.raises(ClusterError, match=r"No Ray cluster answers at '127\.0\.0\.1:\d+'"):
        control.connected(f"127.0.0.1:{free_port()}").__enter__()


def test_without_ray_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ClusterError, match=r"pip install 'hidream-server\[ray\]'"):
        commands.status()
