"""Worker groups on a real Ray cluster: whatever is killed, every task ends once, and well.

How long it takes from a kill to the next step is printed; see it with -s.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.loopback import loopback_only
from tests.e2e.ray_cluster import RayCluster, kill, running_ray
from tests.e2e.server import gone
from tests.postgresql import Postgresql

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

LONG = {"resolution": "512x512", "num_inference_steps": 60, "seed": 1}


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, postgresql: Postgresql
) -> Iterator[RayCluster]:
    with (
        loopback_only(),
        running_ray(tmp_path_factory.mktemp("ray"), postgresql) as cluster,
    ):
        done = cluster.deploy(options={"step_timeout_s": 20})
        assert done.returncode == 0, done.stderr
        cluster.server.start()
        cluster.server.wait_for("/readyz")
        yield cluster


@pytest.fixture(scope="module")
def right(cluster: RayCluster) -> list[bytes]:
    """The picture that is made when nothing happens."""
    return cluster.server.pictures(cluster.server.submit(**LONG))


def under_way(cluster: RayCluster) -> str:
    """Submit a task, and wait until it has been saved at least once."""
    task = cluster.server.submit(**LONG)
    cluster.server.wait_status(task, "processing", progress=25)
    return task


def check(cluster: RayCluster, task: str, right: list[bytes], attempt: int) -> None:
    assert cluster.server.pictures(task) == right
    assert cluster.times_completed(task) == 1
    assert cluster.server.status(task)["attempt"] == attempt


def test_a_deployment_runs_and_says_so(cluster: RayCluster, right: list[bytes]) -> None:
    assert cluster.command("status").stdout.splitlines() == ["demo: running; 1 running"]
    assert len(cluster.ranks()) == 2


def test_a_rank_is_killed(cluster: RayCluster, right: list[bytes]) -> None:
    task, ranks = under_way(cluster), cluster.ranks()
    [replica] = cluster.replicas()
    kill(ranks[1])
    print(f"\nrank killed: stepping after {cluster.wait_stepping(task, 2):.1f} s")
    assert gone(ranks)
    assert cluster.replicas() == [replica]
    check(cluster, task, right, attempt=2)


def test_a_rank_stands_still(cluster: RayCluster, right: list[bytes]) -> None:
    task, ranks = under_way(cluster), cluster.ranks()
    os.kill(ranks[1], signal.SIGSTOP)
    waited = cluster.wait_stepping(task, 2)
    print(f"\nrank stopped, with a step deadline of 20 s: stepping after {waited:.1f} s")
    assert gone(ranks)
    check(cluster, task, right, attempt=2)


def test_a_replica_is_killed(cluster: RayCluster, right: list[bytes]) -> None:
    task, ranks = under_way(cluster), cluster.ranks()
    kill(*cluster.replicas())
    print(f"\nreplica killed: stepping after {cluster.wait_stepping(task, 2):.1f} s")
    assert gone(ranks)
    check(cluster, task, right, attempt=2)


def test_a_node_is_killed(cluster: RayCluster, right: list[bytes]) -> None:
    cluster.add_node()
    task = under_way(cluster)
    cluster.remove_node()
    print(f"\nnode killed: stepping on the other after {cluster.wait_stepping(task, 2):.1f} s")
    check(cluster, task, right, attempt=2)


def test_there_are_as_many_replicas_as_there_is_work_for(
    cluster: RayCluster, right: list[bytes]
) -> None:
    cluster.add_node()
    scaled = {"max_replicas": 2, "work_per_replica": 10, "upscale_delay_s": 0}
    assert cluster.deploy(**scaled, downscale_delay_s=5).returncode == 0
    cluster.wait_replicas(1)
    tasks = [cluster.server.submit(**LONG) for _ in range(6)]
    cluster.wait_replicas(2)
    cluster.server.wait_health(replicas_ready=2)
    for task in tasks:
        assert cluster.server.pictures(task) == right
    cluster.wait_replicas(1)


def test_the_last_words_are_kept_when_all_is_taken_down(
    cluster: RayCluster, right: list[bytes]
) -> None:
    task = under_way(cluster)
    assert cluster.command("down").stdout.splitlines() == ["demo: stopped"]
    check(cluster, task, right, attempt=1)
    assert cluster.replicas() == []
    assert cluster.deploy().returncode == 0


def test_the_head_is_killed(cluster: RayCluster, right: list[bytes]) -> None:
    task = under_way(cluster)
    cluster.kill_head()
    check(cluster, task, right, attempt=1)
    # Groups know the database; that the head is away nobody notices who has work.
    check(cluster, cluster.server.submit(**LONG), right, attempt=1)
    # Until Ray ends what has heard nothing of a head for a while.
    tasks = [cluster.server.submit(**LONG) for _ in range(12)]
    print(f"\nhead killed: the groups ended {cluster.wait_replicas(0):.1f} s later")
    tasks.append(cluster.server.submit(**LONG))
    cluster.stop()
    cluster.start()
    cluster.add_node()
    assert cluster.deploy().returncode == 0
    for task in tasks:
        assert cluster.server.pictures(task) == right
        assert cluster.times_completed(task) == 1
