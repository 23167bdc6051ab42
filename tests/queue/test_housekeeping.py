"""Nothing is lost, overrun or left behind: what the housekeeper does, with a clock set by hand."""

import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

from hidream_server.errors import ResultsUnavailableError, StoreUnavailableError
from hidream_server.queue.housekeeping import HISTORY_S, Housekeeper, HouseRules
from hidream_server.queue.task_queue import LEASE_S
from hidream_server.store.batches import Batch, BatchStore
from hidream_server.store.blobs import Blobs
from hidream_server.store.database import Database
from hidream_server.store.files import FileStore, StoredFile
from hidream_server.store.folder import Folder
from hidream_server.store.outbox import Outbox
from hidream_server.store.pictures import checkpoint_key, picture_name, preview_key
from hidream_server.store.results import in_folder
from hidream_server.store.tables import deliveries
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.support import Clock, new_database, new_queue, params, submit

#: A task that never was.
STRANGER = "3f0d6a1e-9c1b-4e57-8a44-0b6f6d2f9c11"


@pytest.fixture
def house(tmp_path: Path):
    """A queue, files, clocks, and a function that makes a housekeeper with rules."""
    clock, database_clock = Clock(1000.0), Clock()
    engine = new_database(tmp_path / "tasks.db").engine
    database = Database(engine, database_clock)
    queue = new_queue(TaskStore(database), clock=clock)
    results = in_folder(tmp_path)

    batches, files = BatchStore(database), FileStore(database)

    def keeper(**rules: float) -> Housekeeper:
        return Housekeeper(queue, database, results, HouseRules(**rules), clock)

    yield SimpleNamespace(
        clock=clock,
        database=database,
        database_clock=database_clock,
        queue=queue,
        pictures=results.pictures,
        checkpoints=results.checkpoints,
        previews=results.previews,
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
    there = house.pictures.exists(task.pictures[0])
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
    house.keeper(tasks_s=50).forget()
    assert house.queue.get(failed.id) is None
    assert kept(house, task)
    assert house.queue.get(waiting.id) == waiting
    keeper = house.keeper(tasks_s=50, pictures_s=50)
    keeper.retire()
    keeper.forget()
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
    house.keeper().forget()
    assert house.files.find("old") is not None
    assert house.batches.find("old") is not None
    house.keeper(tasks_s=50).forget()
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
        picture_name(STRANGER, 1, 0),
    ]
    for name in (*mine[1:], *strays):
        house.pictures.put(name, b"x")
    for task in (done, running, handed_back, cancelled):
        for attempt in (0, 1):
            house.checkpoints.put(checkpoint_key(task.id, attempt), b"x")
            house.previews.put(preview_key(task.id, attempt, 0), b"x")
    house.keeper().sweep()
    assert house.pictures.names() == sorted(mine)
    still_open = sorted([running.id, handed_back.id])
    # An attempt may go on from what any earlier one has left.
    assert house.checkpoints.names() == [
        checkpoint_key(task_id, attempt) for task_id in still_open for attempt in (0, 1)
    ]
    assert house.previews.names() == [preview_key(task_id, 1, 0) for task_id in still_open]


def test_what_others_have_left_is_left_alone_and_keeps_nothing_from_being_swept(house, tmp_path):
    strays = {
        "pictures": picture_name(STRANGER, 1, 0),
        "checkpoints": checkpoint_key(STRANGER, 1),
        "previews": preview_key(STRANGER, 1, 0),
    }
    strange = ["notes.txt", ".nfs000001", "a_1", "模型", f"{STRANGER}.old"]
    for kind, stray in strays.items():
        for name in (stray, *strange):
            (tmp_path / kind / name).write_bytes(b"x")
        for name in (".folder.part", f"{STRANGER}_9", f"{STRANGER}_9_0"):
            (tmp_path / kind / name).mkdir()
            os.utime(tmp_path / kind / name, (0, 0))
    house.keeper().sweep()
    for kind, stray in strays.items():
        left = os.listdir(tmp_path / kind)
        assert stray not in left
        assert set(strange) < set(left)
        assert len(left) == len(strange) + 3


class Ending:
    """Wraps a store: once something has been dropped there, something else happens."""

    def __init__(self, blobs: Blobs, happens: Callable[[], object]) -> None:
        self._blobs, self._happens = blobs, happens

    def __getattr__(self, verb: str) -> object:
        return getattr(self._blobs, verb)

    def drop(self, name: str) -> None:
        self._blobs.drop(name)
        self._happens()


class Meanwhile:
    """Wraps a store: once its names have been read, something happens elsewhere."""

    def __init__(self, blobs: Blobs, happens: Callable[[], object]) -> None:
        self._blobs, self._happens = blobs, happens

    def __getattr__(self, verb: str) -> object:
        return getattr(self._blobs, verb)

    def names(self) -> list[str]:
        names = list(self._blobs.names())
        self._happens()
        return names


def test_what_another_machine_makes_during_a_sweep_stays(house):
    """A group elsewhere puts a picture and completes, while names are known and rows are not."""
    submit(house.queue, [params()] * 2)
    early, late = house.queue.claim("elsewhere", 2)

    def put(task: Task) -> str:
        name = picture_name(task.id, task.attempt, 0)
        house.pictures.put(name, b"x")
        house.checkpoints.put(checkpoint_key(task.id, 1), b"x")
        return name

    first = put(early)

    def elsewhere() -> None:
        assert house.queue.complete((early.id, early.attempt), [first], {}, 1)
        put(late)

    keeper = house.keeper()
    keeper._results = replace(keeper._results, pictures=Meanwhile(house.pictures, elsewhere))
    keeper.sweep()
    assert set(house.pictures.names()) == {first, picture_name(late.id, 1, 0)}
    assert house.checkpoints.names() == [checkpoint_key(late.id, 1)]
    assert house.queue.complete((late.id, 1), [picture_name(late.id, 1, 0)], {}, 1)


def test_an_attempt_whose_lease_ran_out_can_publish_nothing_and_the_next_one_can(house):
    submit(house.queue, [params()])
    [stale] = house.queue.claim("elsewhere", 1)
    house.pictures.put(picture_name(stale.id, 1, 0), b"stale")
    house.checkpoints.put(checkpoint_key(stale.id, 1), b"x")
    house.database_clock.now = house.clock.now = 1000.0 + LEASE_S + 1
    house.keeper().free_lapsed()
    house.keeper().sweep()
    assert house.pictures.names() == []
    assert house.checkpoints.names() == [checkpoint_key(stale.id, 1)]
    [again] = house.queue.claim("here", 1)
    # The first one writes on: a machine that stood still and has heard of nothing.
    for attempt in (1, 2):
        house.pictures.put(picture_name(stale.id, attempt, 0), b"x")
    house.keeper().sweep()
    assert house.pictures.names() == [picture_name(stale.id, 2, 0)]
    assert not house.queue.complete((stale.id, 1), [picture_name(stale.id, 1, 0)], {}, 1)
    assert house.queue.complete((again.id, 2), [picture_name(stale.id, 2, 0)], {}, 1)


def test_several_servers_may_keep_one_house_at_once(house):
    old = [completed(house) for _ in range(30)]
    house.clock.now += 100
    new = completed(house)
    for task in old:
        house.pictures.put(picture_name(task.id, 9, 0), b"stray")
    keepers = [house.keeper(pictures_s=50, pictures_bytes=1e9, tasks_s=10) for _ in range(4)]
    for duty in ("retire", "forget", "sweep"):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda keeper, duty=duty: getattr(keeper, duty)(), keepers))
    assert house.pictures.names() == list(new.pictures)
    assert [house.queue.get(task.id) for task in old] == [None] * 30
    assert kept(house, new)


def test_pictures_that_cannot_be_dropped_now_are_swept_later(house, monkeypatch):
    task = completed(house)

    def away(*_: object) -> None:
        raise ResultsUnavailableError

    house.clock.now += 100
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "drop", away)
        house.keeper(pictures_s=50).tidy()
    assert house.queue.get(task.id).expired_at is not None
    assert house.pictures.names() == list(task.pictures)
    house.keeper(pictures_s=50).tidy()
    assert house.pictures.names() == []


def test_more_files_than_are_looked_up_at_once_are_swept(house):
    running = picture_name(submit(house.queue, [params()])[0].id, 1, 0)
    house.queue.claim("g", 1)
    for name in [running, *(picture_name(str(uuid.uuid4()), 1, 0) for _ in range(1100))]:
        house.pictures.put(name, b"")
    house.keeper().sweep()
    assert house.pictures.names() == [running]


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
    house.keeper().forget()
    assert count() == 2
    house.clock.now += 1
    house.keeper().forget()
    assert count() == 1
    assert outbox.claim(house.clock.now, 30.0) is not None


def test_each_duty_is_done_when_it_is_time_whatever_becomes_of_the_others(house, monkeypatch):
    done: list[str] = []

    def failing(self: Housekeeper) -> None:
        done.append("retire")
        raise OSError("the folder cannot be read")

    monkeypatch.setattr(Housekeeper, "retire", failing)
    monkeypatch.setattr(Housekeeper, "forget", lambda self: done.append("forget"))
    monkeypatch.setattr(Housekeeper, "sweep", lambda self: done.append("sweep"))
    keeper = house.keeper()
    for seconds, expected in (
        (0, ["retire", "forget", "sweep"]),
        (5, []),
        (56, ["retire", "forget"]),
        (3600, ["retire", "forget", "sweep"]),
    ):
        house.clock.now += seconds
        done.clear()
        keeper.tidy()
        assert done == expected


def test_while_pictures_cannot_be_reached_all_else_is_kept_in_order(house, monkeypatch):
    done: list[str] = []

    def away(*_: object) -> None:
        done.append("retire")
        raise ResultsUnavailableError

    monkeypatch.setattr(Housekeeper, "retire", away)
    monkeypatch.setattr(Housekeeper, "forget", lambda self: done.append("forget"))
    monkeypatch.setattr(Housekeeper, "sweep", lambda self: done.append("sweep"))
    keeper = house.keeper()
    for _ in range(2):
        keeper.tidy()
        house.clock.now += 5
    assert done == ["retire", "forget", "sweep"]


def test_without_a_database_duties_wait_for_it(house, monkeypatch):
    done: list[str] = []

    def away(self: Housekeeper) -> None:
        raise StoreUnavailableError

    monkeypatch.setattr(Housekeeper, "sweep", lambda self: done.append("sweep"))
    away_now = [True]

    def retire(self: Housekeeper) -> None:
        done.append("retire")
        if away_now[0]:
            raise StoreUnavailableError

    monkeypatch.setattr(Housekeeper, "free_lapsed", away)
    monkeypatch.setattr(Housekeeper, "retire", retire)
    keeper = house.keeper()
    keeper.watch()
    keeper.tidy()
    assert done == ["retire"]
    away_now[0] = False
    keeper.tidy()
    assert done == ["retire", "retire", "sweep"]


def test_whoever_ends_does_not_wait_until_all_is_swept(house):
    for _ in range(3):
        completed(house)
    strays = [picture_name(str(uuid.uuid4()), 1, 0) for _ in range(3)]
    for name in strays:
        house.pictures.put(name, b"x")
    house.clock.now += 100
    for duty in ("retire", "sweep"):
        keeper = house.keeper(pictures_s=50)
        keeper._results = replace(keeper._results, pictures=Ending(house.pictures, keeper.stop))
        before = len(house.pictures.names())
        getattr(keeper, duty)()
        assert len(house.pictures.names()) == before - 1
        keeper.tidy()
        assert len(house.pictures.names()) == before - 1
    house.keeper(pictures_s=50).sweep()
    assert house.pictures.names() == []
