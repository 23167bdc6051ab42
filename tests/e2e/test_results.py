"""Pictures in an object store: fetched, deleted, kept through restarts, shared, and waited for."""

import io
import time
from collections.abc import Callable

import pytest
from PIL import Image

from hidream_server.store.bucket import Bucket, open_bucket
from tests.e2e.server import PATIENCE_S, Server
from tests.postgresql import Postgresql
from tests.s3 import S3

REQUEST = {"resolution": "256x256", "num_inference_steps": 4}


@pytest.fixture
def place(s3: S3) -> str:
    return s3.new_bucket() + "/hidream"


@pytest.fixture
def bucket(place: str) -> Bucket:
    return open_bucket(place)


def started(server: Server) -> Server:
    server.start()
    server.wait_for("/readyz")
    return server


def until(is_so: Callable[[], bool], server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert server.runs, server.console()
        assert time.monotonic() < deadline, server.console()
        time.sleep(0.05)


def test_a_picture_in_a_bucket_is_like_any_other(
    server: Server, new_server: Callable[..., Server], place: str, bucket: Bucket
) -> None:
    victim = started(new_server("--results", place))
    task_id = victim.submit(**REQUEST, seed=1, num_previews=1)
    assert victim.pictures(task_id) == server.pictures(server.submit(**REQUEST, seed=1))
    [name] = bucket.within("pictures").names()
    assert not (victim.folder / "var" / "pictures").exists()

    def fetched_as(form: str) -> tuple[str | None, tuple[int, int]]:
        data = victim.client.get(f"/download/{task_id}?output_format={form}").content
        with Image.open(io.BytesIO(data)) as picture:
            return picture.format, picture.size

    assert fetched_as("png") == ("PNG", (256, 256))
    assert fetched_as("webp") == ("WEBP", (256, 256))
    assert fetched_as("jpeg") == ("JPEG", (256, 256))

    assert victim.stop() == 0
    victim.start()
    victim.wait_for("/livez")
    assert victim.client.get(f"/images/{name}").status_code == 200
    assert victim.client.delete(f"/tasks/{task_id}").status_code == 204
    for kind in ("pictures", "checkpoints", "previews"):
        assert bucket.within(kind).names() == []
    assert victim.stop() == 0


def test_a_store_that_is_away_while_tasks_finish_costs_time_and_no_task(
    server: Server, new_server: Callable[..., Server], place: str, s3: S3
) -> None:
    victim = started(new_server("--results", place, "--drain-timeout-s", "1"))
    s3.stop()
    tasks = {seed: victim.submit(**REQUEST, seed=seed) for seed in (1, 2)}
    until(lambda: victim.console().count("The picture is tried again in 4 s") == 2, victim)
    waiting = [victim.status(task_id) for task_id in tasks.values()]
    assert [status["status"] for status in waiting] == ["processing"] * 2
    assert victim.client.get("/health").json()["status"] == "healthy"
    s3.start()
    for seed, task_id in tasks.items():
        alone = server.pictures(server.submit(**REQUEST, seed=seed))
        assert victim.pictures(task_id) == alone
        assert victim.status(task_id)["attempt"] == 1
    assert f"{place} answers again" in victim.console()

    s3.stop()
    answer = victim.client.get(f"/download/{tasks[1]}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "results_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    # One that is asked to stop meanwhile hands back what it cannot write; the next one paints it.
    last = victim.submit(**REQUEST, seed=3)
    until(lambda: victim.status(last)["progress"] == 99, victim)
    until(lambda: victim.console().count("The picture is tried again in 0.5 s") == 3, victim)
    victim.stop()
    s3.start()
    started(victim)
    assert victim.pictures(last) == server.pictures(server.submit(**REQUEST, seed=3))
    assert victim.stop() == 0


def test_without_its_store_a_server_does_not_start_and_says_why(
    new_server: Callable[..., Server], place: str, s3: S3
) -> None:
    s3.stop()
    victim = new_server("--results", place)
    victim.start()
    assert victim.process.wait(PATIENCE_S) == 1
    last = victim.console().strip().splitlines()[-1]
    assert f"--results {place} cannot be read: " in last


@pytest.fixture
def pair(new_server: Callable[..., Server], place: str, postgresql: Postgresql) -> list[Server]:
    where = ("--results", place, "--database-url", postgresql.new_database())
    return [started(new_server(*where)) for _ in range(2)]


def test_two_servers_on_one_database_and_one_bucket_serve_each_others_pictures(
    server: Server, pair: list[Server], bucket: Bucket
) -> None:
    one, other = pair
    tasks = {seed: one.submit(**REQUEST, seed=seed) for seed in range(4)}
    for seed, task_id in tasks.items():
        expected = server.pictures(server.submit(**REQUEST, seed=seed))
        assert one.pictures(task_id) == other.pictures(task_id) == expected
    assert other.client.delete(f"/tasks/{tasks[0]}").status_code == 204
    assert one.client.get(f"/download/{tasks[0]}").status_code == 404
    assert len(bucket.within("pictures").names()) == 3
    assert [each.stop() for each in pair] == [0, 0]
