"""Poison, a database that is gone, a full disk, a mistake of the server's own: nothing is lost."""

import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.disk import SmallDisk
from tests.e2e.server import PATIENCE_S, Server, descendants, gone, share_profiles
from tests.postgresql import Postgresql

FAULTS = Path(__file__).parent / "faults"
REQUEST = {"resolution": "256x256", "num_inference_steps": 30}


def started(server: Server) -> Server:
    server.start()
    server.wait_for("/readyz")
    return server


@cache
def alone(server: Server, seed: int) -> list[bytes]:
    """Return the pictures of a request on a server that nothing happens to."""
    return server.pictures(server.submit(**REQUEST, seed=seed))


def test_poison_is_failed_after_three_attempts_and_its_neighbours_complete(
    server: Server, new_server: Callable[..., Server]
) -> None:
    victim = started(new_server(PYTHONPATH=str(FAULTS), FAULT="poison"))
    tasks = {seed: victim.submit(**REQUEST, seed=seed) for seed in (1, 2)}
    poison = victim.submit(**(REQUEST | {"prompt": "poison", "num_inference_steps": 1}))
    tasks |= {seed: victim.submit(**REQUEST, seed=seed) for seed in (3, 4)}
    status = victim.wait_status(poison, "failed")
    assert "went down 3 times" in status["error"]
    assert status["attempt"] >= 3
    for seed, task_id in tasks.items():
        assert victim.pictures(task_id) == alone(server, seed)
    victim.wait_health(status="healthy")
    assert victim.stop() == 0


@pytest.fixture
def own_database() -> Iterator[Postgresql]:
    with Postgresql() as database:
        yield database


@pytest.fixture
def disk(tmp_path: Path, profiles: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    share_profiles(disk.folder / "data", profiles)
    yield disk
    disk.close()


def test_neither_a_database_that_crashes_nor_a_full_disk_costs_more_than_it_must(
    server: Server, new_server: Callable[..., Server], own_database: Postgresql, disk: SmallDisk
) -> None:
    where = ("--database-url", own_database.new_database(), "--data-dir", str(disk.folder / "data"))
    victim = started(new_server(*where, "--checkpoint-s", "0.2"))
    tasks = {seed: victim.submit(**REQUEST, seed=seed) for seed in (1, 2, 3)}
    long = victim.submit(**REQUEST | {"num_inference_steps": 100}, seed=4)
    victim.wait_status(tasks[1], "processing", progress=5)
    own_database.crash()
    answer = victim.client.post("/submit", json={"prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert victim.client.get("/livez").status_code == 200
    own_database.start()
    for seed, task_id in tasks.items():
        assert victim.pictures(task_id) == alone(server, seed)
        assert victim.status(task_id)["attempt"] == 1
    assert "The task database answers again" in victim.console()

    victim.wait_status(long, "processing", progress=5)
    victim.kill()
    victim.start()
    # Its own leases it takes back at once: nobody waits for them to run out.
    assert victim.wait_for("/livez") is None
    victim.wait_status(long, "completed")
    assert "1 task(s) of the last run" in victim.console()

    if disk.is_small:
        disk.fill()
        error = victim.wait_status(victim.submit(**REQUEST, seed=1), "failed")["error"]
        assert error == "The picture could not be written: No space left on device."
        assert victim.client.get("/health").json()["status"] == "healthy"
        disk.free()
        assert victim.pictures(victim.submit(**REQUEST, seed=1)) == alone(server, 1)
    assert victim.stop() == 0


def test_a_full_disk_under_the_tasks_themselves_costs_none_that_was_accepted(
    server: Server, new_server: Callable[..., Server], disk: SmallDisk
) -> None:
    if not disk.is_small:
        pytest.skip("no file system can be mounted here")
    victim = started(new_server("--data-dir", str(disk.folder / "data")))
    task_id = victim.submit(**REQUEST | {"num_inference_steps": 60}, seed=1)
    victim.wait_status(task_id, "processing", progress=5)
    disk.fill()
    answer = victim.client.post("/submit", json={"prompt": "x"})
    assert answer.status_code == 503
    while "Task failed: The picture could not be written" not in victim.console():
        assert victim.process.poll() is None
        time.sleep(0.05)
    disk.free()
    assert "No space left" in victim.wait_status(task_id, "failed")["error"]
    assert victim.pictures(victim.submit(**REQUEST, seed=1)) == alone(server, 1)
    assert victim.stop() == 0


def test_a_server_that_makes_a_mistake_ends_with_its_ranks_and_not_with_zero(
    new_server: Callable[..., Server],
) -> None:
    victim = new_server(PYTHONPATH=str(FAULTS), FAULT="mistake")
    started(victim)
    family = descendants(victim.process.pid)
    task_id = victim.submit(**REQUEST)
    assert victim.process.wait(PATIENCE_S) not in (0, None)
    assert gone(family)
    assert "RuntimeError: a mistake" in victim.console()
    assert task_id in victim.console()
