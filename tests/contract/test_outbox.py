"""What every database does with the outbox: filled by what ends a task, emptied once."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import select

from hidream_server.store import tasks as task_store
from hidream_server.store.database import Database
from hidream_server.store.outbox import Delivery, Outbox
from hidream_server.store.retention import EndedTasks
from hidream_server.store.tables import deliveries
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskState
from tests.support import params

LEASE_S = 30.0
URL = "https://example.com/hook?token=1"


@pytest.fixture
def store(database: Database) -> TaskStore:
    return TaskStore(database)


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


def queued(
    store: TaskStore, url: str | None = URL, client: str = "anna", key: str | None = None
) -> Task:
    task = Task(
        id=str(uuid4()),
        state=TaskState.QUEUED,
        params=params(num_images=2),
        client=client,
        created_at=1.0,
        webhook_url=url,
    )
    store.insert([task], key)
    return task


def running(store: TaskStore, url: str | None = URL, key: str | None = None) -> Task:
    task = queued(store, url, key=key)
    store.claim("g", 1, 2.5, LEASE_S)
    return task


def ended(store: TaskStore, count: int, client: str = "anna") -> list[str]:
    """End so many tasks, each a second after the one before; return their ids."""
    tasks = [queued(store, client=client) for _ in range(count)]
    for second, task in enumerate(tasks):
        store.cancel(task.id, 10.0 + second)
    return [task.id for task in tasks]


def claimed(outbox: Outbox, now: float = 1e6, lease_s: float = LEASE_S) -> list[Delivery]:
    """Claim all that is due."""
    found: list[Delivery] = []
    while (delivery := outbox.claim(now, lease_s)) is not None:
        found.append(delivery)
    return found


def test_a_completed_task_is_told_with_all_that_a_receiver_needs(store, outbox):
    task = running(store)
    store.complete((task.id, 1), 7.0, ["a.png", "b.png"], {"encode_s": 1.0})
    [delivery] = claimed(outbox, 7.0)
    assert delivery.id.startswith("msg_")
    assert "." not in delivery.id
    assert (delivery.task_id, delivery.client, delivery.url) == (task.id, "anna", URL)
    assert (delivery.what, delivery.created_at, delivery.failures) == ("completed", 7.0, 0)
    assert delivery.facts == {
        "task_id": task.id,
        "status": "completed",
        "error": "",
        "seeds": [42, 43],
        "pictures": ["a.png", "b.png"],
        "created_at": "1970-01-01T00:00:01Z",
        "started_at": "1970-01-01T00:00:02.500000Z",
        "completed_at": "1970-01-01T00:00:07Z",
        "processing_time": 4.5,
        "attempt": 1,
    }


@pytest.mark.parametrize(
    ("end", "what", "error"),
    [
        (lambda store, id: store.fail((id, 1), 9.0, "no \0disk"), "failed", "no disk"),
        (lambda store, id: store.cancel(id, 9.0), "cancelled", ""),
        (
            lambda store, _id: store.cancel_request("anna", "mine", 9.0, lambda _: None),
            "cancelled",
            "",
        ),
        (
            lambda store, _id: store.end_overdue(TaskState.PROCESSING, 9.0, 5.0, "too long"),
            "failed",
            "too long",
        ),
    ],
)
def test_every_other_end_of_a_running_task_is_told(store, outbox, end, what, error):
    task = running(store, key="mine")
    assert end(store, task.id)
    [delivery] = claimed(outbox, 9.0)
    assert (delivery.task_id, delivery.what, delivery.created_at) == (task.id, what, 9.0)
    assert (delivery.facts["status"], delivery.facts["error"]) == (what, error)
    assert (delivery.facts["pictures"], delivery.facts["processing_time"]) == ([], 6.5)


@pytest.mark.parametrize(
    ("end", "what"),
    [
        (lambda store, id: store.cancel(id, 9.0), "cancelled"),
        (lambda store, _id: store.end_overdue(TaskState.QUEUED, 9.0, 5.0, "too long"), "failed"),
    ],
)
def test_so_is_the_end_of_one_that_never_ran(store, outbox, end, what):
    queued(store)
    assert end(store, store.waiting(1)[0].id)
    [delivery] = claimed(outbox, 9.0)
    assert (delivery.what, delivery.facts["attempt"]) == (what, 0)
    assert (delivery.facts["started_at"], delivery.facts["processing_time"]) == (None, None)


def test_what_is_no_end_is_not_told_nor_is_a_stale_word(store, outbox):
    task = running(store)
    store.beat({(task.id, 1): 2}, 3.0, LEASE_S)
    store.release((task.id, 1), 4.0, crashed=True, reason="rank 0 left")
    store.claim("g", 1, 5.0, LEASE_S)
    store.reap(1e6)
    store.claim("g", 1, 6.0, LEASE_S)
    store.take_back("g", 7.0)
    assert not store.complete((task.id, 1), 8.0, ["a.png"], {})
    assert not store.fail((task.id, 1), 8.0, "stale")
    assert claimed(outbox) == []
    assert store.cancel(task.id, 9.0)
    assert not store.cancel(task.id, 9.0)
    assert store.delete(task.id, 9.0)
    assert [delivery.what for delivery in claimed(outbox)] == ["cancelled"]


def test_nothing_is_told_of_a_task_that_has_no_receiver(store, outbox):
    completed, failed = running(store, url=None), running(store, url=None)
    store.complete((completed.id, 1), 7.0, ["a.png"], {})
    store.fail((failed.id, 1), 7.0, "no disk")
    assert claimed(outbox) == []


@pytest.mark.parametrize(
    "end",
    [
        lambda store, id: store.complete((id, 1), 7.0, ["a.png"], {}),
        lambda store, id: store.cancel(id, 7.0),
    ],
    ids=["complete", "cancel"],
)
def test_the_end_and_its_message_are_one_transaction(store, outbox, monkeypatch, end):
    announce = task_store.announce

    def cut(*args: object) -> None:
        announce(*args)
        raise RuntimeError("power cut")

    monkeypatch.setattr(task_store, "announce", cut)
    task = running(store)
    with pytest.raises(RuntimeError, match="power cut"):
        end(store, task.id)
    assert store.get(task.id).state is TaskState.PROCESSING
    assert claimed(outbox) == []
    monkeypatch.undo()
    assert end(store, task.id)
    assert len(claimed(outbox)) == 1


def test_what_has_been_due_for_longest_is_first_and_nothing_before_it_is_due(store, outbox):
    late, early, later = (queued(store).id for _ in range(3))
    for task_id, at in ((late, 11.0), (early, 10.0), (later, 12.0)):
        store.cancel(task_id, at)
    assert [delivery.task_id for delivery in claimed(outbox, 11.0)] == [early, late]
    assert [delivery.task_id for delivery in claimed(outbox, 12.0)] == [later]


def test_what_is_claimed_is_left_alone_until_its_lease_has_run_out(store, outbox):
    ended(store, 1)
    [delivery] = claimed(outbox, 10.0)
    assert claimed(outbox, 10.0 + LEASE_S - 0.1) == []
    # The same again, for whoever claimed it may have crashed.
    assert claimed(outbox, 10.0 + LEASE_S) == [delivery]


def test_some_clients_can_be_left_out(store, outbox):
    ended(store, 2, "anna")
    [of_ben] = ended(store, 1, "ben")
    assert outbox.claim(1e6, LEASE_S, ["anna"]).task_id == of_ben
    assert outbox.claim(1e6, LEASE_S, ["anna"]) is None
    assert len(claimed(outbox)) == 2


def test_several_servers_claim_each_message_once(new_databases):
    open_database: Callable[[], Database] = new_databases()
    databases = [open_database() for _ in range(4)]
    ids = ended(TaskStore(databases[0]), 40)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda database: claimed(Outbox(database)), databases))
    counted = Counter(delivery.task_id for some in found for delivery in some)
    assert counted == Counter(ids)
    assert len({delivery.id for some in found for delivery in some}) == 40
    for database in databases:
        database.dispose()


def test_a_failed_try_is_counted_and_the_next_one_is_when_it_is_said_to_be(store, outbox):
    ended(store, 1)
    [delivery] = claimed(outbox, 10.0)
    outbox.postpone(delivery, 100.0, "nobody there")
    assert claimed(outbox, 99.9) == []
    [again] = claimed(outbox, 100.0)
    assert (again.id, again.failures) == (delivery.id, 1)
    # One whose lease had run out comes late: it has no say any more.
    outbox.postpone(delivery, 5.0, "stale")
    assert claimed(outbox, 101.0) == []


@pytest.mark.parametrize("error", [None, "410"])
def test_what_is_done_is_never_claimed_again_whoever_comes_late(store, outbox, database, error):
    ended(store, 1)
    [delivery] = claimed(outbox, 10.0)
    outbox.done(delivery, 11.0, error)
    outbox.postpone(delivery, 12.0, "late")
    outbox.done(delivery, 13.0, "late")
    assert claimed(outbox) == []
    with database.read() as connection:
        row = connection.execute(select(deliveries)).one()
    assert (row.done_at, row.last_error, row.failures) == (11.0, error, 1 if error else 0)


def test_what_is_done_is_forgotten_in_time_and_nothing_else(store, outbox):
    for delivery, done_at in zip([*ended(store, 3)], [50.0, 60.0, None], strict=True):
        claim = outbox.claim(1e3, LEASE_S)
        assert claim.task_id == delivery
        if done_at is not None:
            outbox.done(claim, done_at)
    assert outbox.forget(before=60.0) == 1
    assert outbox.forget(before=1e9) == 1
    assert len(claimed(outbox)) == 1


def test_the_message_outlives_its_task(store, outbox, database):
    deleted, forgotten = ended(store, 2)
    assert store.delete(deleted, 20.0)
    assert EndedTasks(database).forget(1e6) == 1
    assert store.find([deleted, forgotten]) == []
    assert [delivery.task_id for delivery in claimed(outbox)] == [deleted, forgotten]


def test_what_a_task_tells_whom_is_kept_with_it(store):
    task = queued(store)
    assert store.get(task.id).webhook_url == URL
    assert store.get(queued(store, url=None).id).webhook_url is None
