"""A group of ranks loses one, hangs, raises or cannot start: no task is lost, no picture wrong.

A running task that is cancelled leaves all of them to the next one.
"""

import os
import signal
import time
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.server import PATIENCE_S, Server, descendants, gone

FAULTS = Path(__file__).parent / "faults"
REQUEST = {"resolution": "512x512", "num_inference_steps": 20}
SEEDS = (11, 12, 13)
TWO = ("-t", "cpu", "-c", "2", "--layout-cool-down-s", "100000")
#: A server like this is used by most of the tests: each leaves it warm.
WATCHED = (*TWO, "--step-timeout-s", "20")


def pixels(server: Server, task_id: str) -> np.ndarray:
    [data] = server.pictures(task_id)
    return np.asarray(Image.open(BytesIO(data))).astype(int)


@cache
def expected(server: Server) -> list[np.ndarray]:
    """The pictures of the tasks on one rank to which nothing happens."""
    return [pixels(server, server.submit(**REQUEST, seed=seed)) for seed in SEEDS]


def submit_all(victim: Server) -> list[str]:
    return [victim.submit(**REQUEST, seed=seed) for seed in SEEDS]


def check(victim: Server, server: Server, tasks: list[str]) -> None:
    """Every task has the picture it would have had: none is lost, none is wrong."""
    for task_id, picture in zip(tasks, expected(server), strict=True):
        assert np.abs(pixels(victim, task_id) - picture).max() <= 1


def started(victim: Server) -> Server:
    victim.start()
    victim.wait_for("/readyz")
    return victim


def test_ranks_leave_a_cancelled_task_together(
    server: Server, warm_server: Callable[..., Server]
) -> None:
    group = warm_server(*WATCHED)
    unwanted = group.submit(resolution="512x512", num_inference_steps=200, num_images_per_prompt=8)
    wanted = [group.submit(**REQUEST, seed=seed) for seed in SEEDS]
    group.wait_status(unwanted, "processing", progress=1)
    cancelled = group.client.post(f"/tasks/{unwanted}/cancel").json()
    assert cancelled["status"] == "cancelled"
    check(group, server, wanted)
    assert group.status(unwanted)["status"] == "cancelled"
    assert group.status(unwanted)["progress"] < 50
    assert {group.status(task_id)["attempt"] for task_id in wanted} == {1}


@pytest.mark.parametrize(
    ("rank", "number"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGSTOP)]
)
def test_a_rank_that_dies_or_stands_still(
    server: Server, warm_server: Callable[..., Server], rank: int, number: signal.Signals
) -> None:
    victim = warm_server(*WATCHED)
    assert victim.client.get("/health").json()["layout"] == "tp2"
    tasks = submit_all(victim)
    victim.wait_status(tasks[0], "processing", progress=20)
    family = victim.ranks()
    [process] = [pid for pid in family if rank_of(pid) == rank]
    killed = time.monotonic()
    os.kill(process, number)
    # A task is only claimed for a group that is warm: then it steps.
    while "Task started, attempt 2" not in victim.console():
        assert time.monotonic() - killed < PATIENCE_S
        time.sleep(0.05)
    print(f"stepping again {time.monotonic() - killed:.1f} s after {number.name} of rank {rank}")
    check(victim, server, tasks)
    assert gone(family)
    assert victim.client.get("/health").json()["layout"] == "tp2"


def rank_of(pid: int) -> int:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return int(dict(v.split(b"=", 1) for v in variables if b"=" in v)[b"RANK"])


def test_a_killed_server_takes_all_its_ranks_along(
    server: Server, warm_server: Callable[..., Server]
) -> None:
    victim = warm_server(*WATCHED)
    tasks = submit_all(victim)
    victim.wait_status(tasks[0], "processing", progress=20)
    family = descendants(victim.process.pid)
    victim.kill()
    assert gone(family)
    victim.start()
    victim.wait_for("/livez")
    check(victim, server, tasks)


def test_a_rank_that_raises_ends_the_group_and_no_task(
    server: Server, new_server: Callable[..., Server], tmp_path: Path
) -> None:
    victim = new_server(*TWO, PYTHONPATH=str(FAULTS), FAULT="raise", FAULT_FOLDER=str(tmp_path))
    started(victim)
    tasks = submit_all(victim)
    check(victim, server, tasks)
    assert (tmp_path / "raised").exists()
    assert "Worker group lost" in victim.console()
    assert victim.stop() == 0


def test_a_group_that_cannot_start_gives_way_to_one_device(
    server: Server, new_server: Callable[..., Server]
) -> None:
    victim = new_server(*TWO, "--layout-tries", "1", PYTHONPATH=str(FAULTS), FAULT="no group")
    victim.start()
    victim.wait_for("/livez")
    tasks = submit_all(victim)
    check(victim, server, tasks)
    health = victim.client.get("/health").json()
    assert (health["status"], health["pipeline_ready"]) == ("degraded", True)
    assert (health["layout"], health["wanted_layout"]) == ("tp1", "tp2")
    assert health["reason"]
    assert "Distributed inference failed, trying single" in victim.console()
    assert victim.stop() == 0


def test_it_climbs_back_when_idle(server: Server, new_server: Callable[..., Server]) -> None:
    options = ("-t", "cpu", "-c", "2", "--layout-tries", "1", "--layout-cool-down-s", "1")
    victim = started(new_server(*options))
    os.kill(victim.ranks()[0], signal.SIGKILL)
    deadline = time.monotonic() + 120
    seen = set()
    while not {("degraded", "tp1"), ("healthy", "tp2")} <= seen:
        assert time.monotonic() < deadline, seen
        health = victim.client.get("/health").json()
        seen |= {(health["status"], health["layout"])} if health["pipeline_ready"] else set()
        time.sleep(0.05)
        if ("degraded", "tp1") not in seen:
            seen.discard(("healthy", "tp2"))
    check(victim, server, submit_all(victim))
    assert victim.stop() == 0
