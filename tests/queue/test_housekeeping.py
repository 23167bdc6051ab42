"""Nothing is lost, overrun or left behind: what the housekeeper does, with a clock set by hand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

from hidream_server.errors import StoreUnavailableError
from hidream_server.queue.housekeeping import HISTORY_S, Housekeeper, HouseRules
from hidream_server.queue.task_queue import LEASE_S
from hidream_server.store.batches import Batch, BatchStore
from hidream_server.store.database import Database
from hidream_server.store.files import FileStore, StoredFile
from hidream_server.store.keyed_files import KeyedFiles
from hidream_server.store.outbox import Outbox
from hidream_server.store.pictures import PictureFolder, picture_name
from hidream_server.store.tables import deliveries
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.support import Clock, new_database, new_queue, params, submit


@pytest.fixture
def house(tmp_path: Path):
    """A queue, files, clocks, and a function that makes a housekeeper with rules."""
    clock, database_clock = Clock(1000.0), Clock()
    engine = new_database(tmp_path / "tasks.db").engine
    database = Database(engine, database_clock)
    queue = new_queue(TaskStore(database), clock=clock)
    pictures, checkpoints = PictureFolder(tmp_path / "p"), KeyedFiles(tmp_path / "c")

    batches, files = BatchStore(database), FileStore(database)

    def keeper(**rules: float) -> Housekeeper:
        return Housekeeper(queue, database, pictures, checkpoints, HouseRules(**rules), clock)

    yield SimpleNamespace(
        clock=clock,
        database=database,
        database_clock=database_clock,
        queue=queue,
        pictures=pictures,
        checkpoints=checkpoints,
        batches=batches,
        files=files,
        keeper=keeper,
    )
    engine.dispose()


def completed(house, size: int = 10) -> Task:
    """Return a task with one picture of so many bytes."""
    submit(house.queue, [params()])
    [task] = house.queue.claim("g", 1)
    name = picture_name(task.id, task.attempt, 0)
    house.pictures.put(name, b"x" * size)
    assert house.queue.complete((task.id, task.attempt), [name], {}, size)
    return house.queue.get(task.id)


def kept(house, task: Task) -> bool:
    """Tell whether a task's picture is there, which its row and the folder must agree on."""
    there = house.pictures.path(task.pictures[0]) is not None
    assert there == (house.queue.get(task.id).expired_at is None)
    return there


# Leases and time-outs


def test_a_lease_that_ran_out_is_taken_back(house):
    [task] = submit(house.queue, [params()])
    house.queue.claim("g", 1)
    house.database_clock.now = house.clock.now = 1000.0 + LEASE_S - 1
    house.keeper().free_lapsed()
    assert house.queue.get(task.id).state is TaskState.PROCESSING
    house.clock.now += 2
    house.keeper().free_lapsed()
    assert house.queue.get(task.id).state is TaskState.QUEUED


def test_after_a_while_without_a_database_groups_may_renew_their_leases_first(house):
    [task] = submit(house.queue, [params()])
    house.queue.claim("g", 1)
    house.clock.now += 10 * LEASE_S
    # It has only just begun to answer.
    house.database_clock.now = LEASE_S - 1
    house.keeper().free_lapsed()
    assert house.queue.beat({(task.id, 1): 3}) == set()
    house.database_clock.now = LEASE_S + 1
    house.keeper().free_lapsed()
    assert house.queue.get(task.id).state is TaskState.PROCESSING


def test_what_waits_or_runs_too_long_is_failed_and_told(house):
    told: list[str] = []
    house.queue.on_end(told.append)
    running, waiting = submit(house.queue, [params()] * 2)
    house.queue.claim("g", 1)
    house.keeper().free_lapsed()
    house.clock.now += 20
    house.database_clock.now = LEASE_S + 1
    for _ in range(2):
        house.keeper(queued_s=30, running_s=15).free_lapsed()
        assert told == [running.id]
    house.clock.now += 20
    house.keeper(queued_s=30, running_s=15).free_lapsed()
    assert told == [running.id, waiting.id]
    assert house.queue.get(running.id).error == "The task was not finished within 15 s."
    assert house.queue.get(waiting.id).error == "The task was not started within 30 s."


# Retention


def test_pictures_go_when_they_are_old(house):
    old = completed(house)
    house.clock.now += 50
    new = completed(house)
    house.clock.now += 60
    house.keeper(pictures_s=100).retire()
    assert (kept(house, old), kept(house, new)) == (False, True)
    assert house.queue.get(old.id).state is TaskState.COMPLETED


def test_the_oldest_pictures_go_when_there_are_too_many(house):
    tasks = []
    for size in (40, 30, 20, 10):
        tasks.append(completed(house, size))
        house.clock.now += 1
    house.keeper(pictures_bytes=60).retire()
    assert [kept(house, task) for task in tasks] == [False, True, True, True]
    house.keeper(pictures_bytes=59).retire()
    assert [kept(house, task) for task in tasks] == [False, False, True, True]


def test_without_rules_everything_is_kept(house):
    task = completed(house)
    house.clock.now += 1e9
    house.keeper().retire()
    assert kept(house, task)


def test_rows_go_when_they_are_old_but_never_before_their_pictures(house):
    task = completed(house)
    submit(house.queue, [params()])
    [failed] = house.queue.claim("g", 1)
    house.queue.fail((failed.id, 1), "no")
    [waiting] = submit(house.queue, [params()])
    house.clock.now += 100
    house.keeper(tasks_s=50).retire()
    assert house.queue.get(failed.id) is None
    assert kept(house, task)
    assert house.queue.get(waiting.id) == waiting
    house.keeper(tasks_s=50, pictures_s=50).retire()
    assert house.queue.get(task.id) is None
    assert house.pictures.names() == []


def test_files_and_batches_that_are_old_are_forgotten_too(house):
    for name, at in (("old", 900.0), ("new", 960.0)):
        file = StoredFile(id=name, client="", filename="", purpose="batch", bytes=1, created_at=at)
        house.files.add(file, b"x")
        batch = Batch(
            id=name,
            client="",
            endpoint="",
            input_file_id=name,
            completion_window="24h",
            created_at=at,
        )
        house.batches.add(batch)
    house.keeper().retire()
    assert house.files.find("old") is not None
    assert house.batches.find("old") is not None
    house.keeper(tasks_s=50).retire()
    assert (house.files.find("old"), house.batches.find("old")) == (None, None)
    assert house.files.find("new") is not None
    assert house.batches.find("new") is not None


# Sweeping


def test_files_that_no_task_owns_are_swept(house):
    done = completed(house)
    submit(house.queue, [params()] * 3)
    running, handed_back, cancelled = (house.queue.claim("g", 1)[0] for _ in range(3))
    house.queue.hand_back((handed_back.id, 1), "tested")
    house.queue.cancel(cancelled.id)
    mine = [done.pictures[0], picture_name(running.id, 1, 0)]
    strays = [
        picture_name(done.id, 7, 0),
        picture_name(running.id, 0, 0),
        picture_name(handed_back.id, 1, 0),
        picture_name(cancelled.id, 1, 0),
        picture_name("3f0d6a1e-9c1b-4e57-8a44-0b6f6d2f9c11", 1, 0),
    ]
    for name in (*mine[1:], *strays):
        house.pictures.put(name, b"x")
    for task in (done, running, handed_back, cancelled):
        house.checkpoints.put(task.id, b"x")
    house.keeper().sweep()
    assert house.pictures.names() == sorted(mine)
    assert house.checkpoints.names() == sorted([running.id, handed_back.id])


def test_what_is_no_picture_is_left_alone(house):
    house.pictures.put("notes.txt", b"x")
    house.keeper().sweep()
    assert house.pictures.names() == ["notes.txt"]


# All duties


def test_what_was_told_is_forgotten_after_a_while_and_what_was_not_is_kept(house):
    outbox = Outbox(house.database)
    drafts = house.queue.draft([params()] * 2)
    house.queue.submit([replace(draft, webhook_url="https://example.com") for draft in drafts])
    for draft in drafts:
        house.queue.cancel(draft.id)
    outbox.done(outbox.claim(1000.0, 30.0), 1000.0)

    def count() -> int:
        with house.database.read() as connection:
            return connection.scalar(select(func.count()).select_from(deliveries))

    house.clock.now += HISTORY_S
    house.keeper().retire()
    assert count() == 2
    house.clock.now += 1
    house.keeper().retire()
    assert count() == 1
    assert outbox.claim(house.clock.now, 30.0) is not None


def test_each_duty_is_done_when_it_is_time_whatever_becomes_of_the_others(house, monkeypatch):
    done: list[str] = []

    def failing(self: Housekeeper) -> None:
        done.append("retire")
        raise OSError("the folder cannot be read")

    monkeypatch.setattr(Housekeeper, "free_lapsed", lambda self: done.append("free"))
    monkeypatch.setattr(Housekeeper, "retire", failing)
    monkeypatch.setattr(Housekeeper, "sweep", lambda self: done.append("sweep"))
    keeper = house.keeper()
    for seconds, expected in (
        (0, ["free", "retire", "sweep"]),
        (5, ["free"]),
        (56, ["free", "retire"]),
        (3600, ["free", "retire", "sweep"]),
    ):
        house.clock.now += seconds
        done.clear()
        keeper.tidy()
        assert done == expected


def test_without_a_database_duties_wait_for_it(house, monkeypatch):
    done: list[str] = []

    def away(self: Housekeeper) -> None:
        raise StoreUnavailableError

    monkeypatch.setattr(Housekeeper, "retire", lambda self: done.append("retire"))
    monkeypatch.setattr(Housekeeper, "free_lapsed", away)
    keeper = house.keeper()
    keeper.tidy()
    assert done == []
    monkeypatch.setattr(Housekeeper, "free_lapsed", lambda self: None)
    keeper._every_s = {keeper.free_lapsed: 0.0, keeper.retire: 60.0}
    keeper._done_at = dict.fromkeys(keeper._every_s, -1e9)
    keeper.tidy()
    assert done == ["retire"]
