"""Several servers and workers on one database: whichever dies, every task ends once, and well."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running_cluster
from tests.e2e.server import Server
from tests.postgresql import Postgresql

QUICK = {"resolution": "512x512", "num_inference_steps": 20}
#: So long that whatever is done to the worker that has it is done in its middle.
SLOW = {"resolution": "512x512", "num_inference_steps": 150, "seed": 1}
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, profiles: Path, postgresql: Postgresql
) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), profiles, postgresql) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def right(server: Server) -> dict[int, bytes]:
    """The pictures that a server alone makes of the same requests."""
    tasks = {seed: server.submit(seed=seed, **QUICK) for seed in SEEDS}
    return {seed: server.pictures(task)[0] for seed, task in tasks.items()}


def test_all_servers_know_of_all_groups_and_tasks(cluster: Cluster) -> None:
    one, other = cluster.servers
    task = one.submit(seed=1, num_previews=2, **QUICK)
    status = other.wait_status(task, "completed")
    assert status["attempt"] == 1
    events = other.client.get(f"/tasks/{task}/events").text
    assert [line for line in events.splitlines() if line.startswith("event: ")][-1] == (
        "event: completed"
    )
    groups = other.client.get("/groups").json()["groups"]
    assert len({group["id"] for group in groups}) == 2
    assert all(group["ready"] for group in groups)


def test_a_name_of_a_request_holds_on_every_server(cluster: Cluster) -> None:
    headers = {"Idempotency-Key": "the same"}
    body = {"prompt": "a red circle", "seed": 9, **QUICK}
    answers = [s.client.post("/submit", json=body, headers=headers) for s in cluster.servers]
    assert len({answer.json()["task_id"] for answer in answers}) == 1


def test_a_task_is_cancelled_by_any_server(cluster: Cluster) -> None:
    one, other = cluster.servers
    task = one.submit(**{**QUICK, "num_inference_steps": 200})
    one.wait_status(task, "processing", progress=1)
    other.client.post(f"/tasks/{task}/cancel").raise_for_status()
    one.wait_status(task, "cancelled")
    cluster.servers[0].wait_health(active_tasks=0)


def test_whoever_is_killed_in_turn_no_task_is_lost_and_none_published_twice(
    cluster: Cluster, right: dict[int, bytes]
) -> None:
    one, other = cluster.servers
    tasks: dict[str, int] = {}
    for victim in cluster.all:
        # Those who ask are not to be hit by what is done to the other server.
        asked = one if victim is other else other
        tasks |= {asked.submit(seed=seed, **QUICK): seed for seed in SEEDS}
        asked.wait_health(queue_length=0)
        victim.kill()
        assert asked.client.get("/livez").status_code == 200
        victim.start()
        if victim in cluster.servers:
            victim.wait_for("/readyz")
    for task, seed in tasks.items():
        assert one.pictures(task) == [right[seed]]
        assert cluster.times_completed(task) == 1


def test_a_stopped_worker_loses_its_lease_and_its_late_result_is_not_published(
    cluster: Cluster, server: Server
) -> None:
    front = cluster.servers[0]
    front.wait_health(replicas_ready=2, active_tasks=0)
    task = front.submit(**SLOW)
    stopped = cluster.worker_of(task)
    front.wait_status(task, "processing", progress=1)
    stopped.turn_page()
    os.kill(stopped.process.pid, signal.SIGSTOP)
    try:
        status = front.wait_status(task, "completed")
    finally:
        os.kill(stopped.process.pid, signal.SIGCONT)
    assert status["attempt"] == 2
    stopped.wait_said("Task was taken away")
    assert front.pictures(task) == server.pictures(server.submit(**SLOW))
    assert cluster.times_completed(task) == 1
