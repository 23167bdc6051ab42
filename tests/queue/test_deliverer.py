"""What becomes of messages in the outbox, with a clock set by hand and a sender that is told."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop
from sqlalchemy import select

from hidream_server.errors import DeliveryError, StoreUnavailableError
from hidream_server.queue import deliverer as deliverers
from hidream_server.queue.deliverer import AT_ONCE, CLIENT_AT_ONCE, LEASE_S, Deliverer
from hidream_server.store.database import Database
from hidream_server.store.outbox import Outbox
from hidream_server.store.tables import deliveries
from hidream_server.store.tasks import TaskStore
from hidream_server.webhooks.backoff import next_try_s
from tests.support import Clock, new_database, new_queue, params

URL = "https://example.com/hook"
NOBODY = DeliveryError("The receiver cannot be reached.")


@dataclass
class Sent:
    url: str
    id: str
    at_s: int
    body: bytes
    secret: str

    @property
    def message(self) -> dict[str, object]:
        return json.loads(self.body)


@dataclass
class FakeSender:
    """Remembers what it was to send; fails as it is told, and waits at a gate while it is shut."""

    failures: list[Exception] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def __post_init__(self) -> None:
        self.open.set()

    async def send(self, url: str, message_id: str, at_s: int, body: bytes, secret: str) -> None:
        self.sent.append(Sent(url, message_id, at_s, body, secret))
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = new_database(tmp_path / "tasks.db")
    yield database
    database.dispose()


@pytest.fixture
def unhurried(monkeypatch):
    """Look again without a pause, and only if there is a hint or the test says so."""
    monkeypatch.setattr(deliverers, "_PAUSE_S", 0.0)
    monkeypatch.setattr(deliverers, "_POLL_S", 1e6)


@pytest.fixture
def post(database: Database):
    """A queue, a sender, a clock, and a deliverer of a server that was just started."""
    clock, sender = Clock(1000.0), FakeSender()
    queue = new_queue(TaskStore(database), clock=clock)

    def start() -> Deliverer:
        return Deliverer(
            Outbox(database),
            sender,
            secret=lambda client: f"the secret of {client}",
            link=lambda client, name: f"https://pictures/{name}?for={client}&at={clock.now:g}",
            clock=clock,
            jitter=lambda: 0.0,
        )

    def deliver() -> list[Sent]:
        """Look once for what is due, and finish it; return what was sent."""
        before = len(sender.sent)
        deliverer = start()
        deliverer.stop()
        uvloop.run(deliverer.run())
        return sender.sent[before:]

    def row():
        with database.read() as connection:
            return connection.execute(select(deliveries)).one()

    return SimpleNamespace(
        clock=clock, sender=sender, queue=queue, start=start, deliver=deliver, row=row
    )


def submitted(post, client: str = "anna") -> str:
    [draft] = post.queue.draft([params()], client)
    post.queue.submit([replace(draft, webhook_url=URL)])
    return draft.id


def cancelled(post, client: str = "anna", count: int = 1) -> list[str]:
    ids = [submitted(post, client) for _ in range(count)]
    for task_id in ids:
        post.queue.cancel(task_id)
    return ids


# What is sent


def test_an_end_is_told_once_to_its_receiver_in_the_name_of_its_client(post):
    task_id = submitted(post)
    assert post.deliver() == []
    post.queue.claim("g", 1)
    post.clock.now = 1004.5
    post.queue.complete((task_id, 1), ["a.png"], {})
    [sent] = post.deliver()
    assert (sent.url, sent.at_s, sent.secret) == (URL, 1004, "the secret of anna")
    assert sent.message == {
        "type": "task.completed",
        "timestamp": "1970-01-01T00:16:44.500000Z",
        "data": {
            "task_id": task_id,
            "status": "completed",
            "error": "",
            "seeds": [42],
            "result_urls": ["https://pictures/a.png?for=anna&at=1004.5"],
            "created_at": "1970-01-01T00:16:40Z",
            "started_at": "1970-01-01T00:16:40Z",
            "completed_at": "1970-01-01T00:16:44.500000Z",
            "processing_time": 4.5,
            "attempt": 1,
        },
    }
    assert (post.row().done_at, post.row().last_error) == (1004.5, None)
    post.clock.now += 1e6
    assert post.deliver() == []
    assert post.sender.closed


def test_the_other_ends_are_told_by_their_names(post):
    failed = submitted(post)
    post.queue.claim("g", 1)
    post.queue.fail((failed, 1), "no disk")
    cancelled(post)
    messages = [sent.message for sent in post.deliver()]
    assert [message["type"] for message in messages] == ["task.failed", "task.cancelled"]
    assert [message["data"]["error"] for message in messages] == ["no disk", ""]
    assert messages[1]["data"]["result_urls"] == []


# What fails


def test_what_fails_is_sent_again_on_the_schedule_under_the_same_id_until_it_is_given_up(
    post, caplog
):
    caplog.set_level(logging.INFO)
    cancelled(post)
    post.sender.failures = [NOBODY] * 11
    tries = post.deliver()
    for failures in range(1, 10):
        pause_s = next_try_s(failures, 0.0)
        assert (post.row().failures, post.row().next_try_at) == (failures, post.clock.now + pause_s)
        post.clock.now += pause_s - 0.1
        assert post.deliver() == []
        post.clock.now += 0.1
        tries += post.deliver()
    assert len(tries) == 10
    assert len({sent.id for sent in tries}) == 1
    assert len({sent.at_s for sent in tries}) == 10
    assert len({sent.body for sent in tries}) == 1
    assert (post.row().done_at, post.row().failures) == (post.clock.now, 10)
    assert post.row().last_error == "The receiver cannot be reached."
    post.clock.now += 1e7
    assert post.deliver() == []
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.message for record in warnings] == [
        f"Webhook {tries[0].id} given up at try 10: The receiver cannot be reached."
    ]
    assert URL not in caplog.text


def test_links_are_made_anew_at_every_try(post):
    task_id = submitted(post)
    post.queue.claim("g", 1)
    post.queue.complete((task_id, 1), ["a.png"], {})
    post.sender.failures = [NOBODY]
    tries = post.deliver()
    post.clock.now += 6
    tries += post.deliver()
    first, second = (sent.message for sent in tries)
    assert [m["data"].pop("result_urls") for m in (first, second)] == [
        ["https://pictures/a.png?for=anna&at=1000"],
        ["https://pictures/a.png?for=anna&at=1006"],
    ]
    assert first == second


def test_a_success_after_failures_is_the_end_of_it(post):
    cancelled(post)
    post.sender.failures = [NOBODY]
    post.deliver()
    post.clock.now += 5
    assert len(post.deliver()) == 1
    assert (post.row().done_at, post.row().last_error) == (1005.0, None)


def test_what_is_final_is_given_up_at_once(post, caplog):
    cancelled(post)
    post.sender.failures = [DeliveryError("It wants no more.", final=True)]
    post.deliver()
    assert (post.row().done_at, post.row().last_error) == (1000.0, "It wants no more.")
    assert "given up at try 1: It wants no more." in caplog.text


def test_a_pause_is_longer_by_chance(post):
    cancelled(post)
    post.sender.failures = [NOBODY]
    deliverer = post.start()
    deliverer._jitter = lambda: 1.0
    deliverer.stop()
    uvloop.run(deliverer.run())
    assert post.row().next_try_at == 1000.0 + next_try_s(1, 1.0)


def test_a_mistake_of_our_own_costs_a_try_and_keeps_no_other_message_back(post, caplog):
    cancelled(post, count=3)
    post.sender.failures = [ValueError("a mistake")]
    assert len(post.deliver()) == 3
    assert "a mistake" in caplog.text
    post.clock.now += 5
    assert len(post.deliver()) == 1


# What is cut short


def test_what_was_under_way_at_a_crash_is_sent_again_after_its_lease_under_the_same_id(post):
    cancelled(post)

    async def crash() -> None:
        post.sender.open.clear()
        running = asyncio.create_task(post.start().run())
        while not post.sender.sent:
            await asyncio.sleep(0)
        running.cancel()

    uvloop.run(crash())
    post.sender.open = asyncio.Event()
    post.sender.open.set()
    post.clock.now += LEASE_S - 1
    assert post.deliver() == []
    post.clock.now += 1
    [again] = post.deliver()
    assert again.id == post.sender.sent[0].id


def test_what_was_delivered_but_not_noted_is_delivered_again(post, monkeypatch, caplog):
    cancelled(post)

    def away(*_: object) -> None:
        raise StoreUnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "done", away)
        assert len(post.deliver()) == 1
    assert "sent again" in caplog.text
    post.clock.now += LEASE_S
    assert len(post.deliver()) == 1
    assert len({sent.id for sent in post.sender.sent}) == 1
    assert post.row().done_at == post.clock.now


def test_while_the_database_is_away_messages_wait(post, monkeypatch):
    cancelled(post)

    def away(*_: object) -> None:
        raise StoreUnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "claim", away)
        assert post.deliver() == []
    assert len(post.deliver()) == 1


def test_what_ends_while_it_stops_is_told_before_it_ends(post, monkeypatch, unhurried):
    deliverer, claim = post.start(), Outbox.claim

    def claim_too_early(self: Outbox, *args: object):
        found = claim(self, *args)
        if not deliverer._stopping:
            cancelled(post)
            deliverer._loop.call_soon_threadsafe(deliverer.stop)
        return found

    monkeypatch.setattr(Outbox, "claim", claim_too_early)
    uvloop.run(deliverer.run())
    assert len(post.sender.sent) == 1


def test_a_stop_lets_those_under_way_finish_and_cuts_short_what_takes_too_long(post, monkeypatch):
    monkeypatch.setattr(deliverers, "_FINISH_S", 0.01)
    cancelled(post)
    post.sender.open.clear()
    assert len(post.deliver()) == 1
    assert post.sender.closed
    assert (post.row().done_at, post.row().failures) == (None, 0)


# While it runs


async def sent(post, count: int) -> None:
    async with asyncio.timeout(30):
        while len(post.sender.sent) < count:
            await asyncio.sleep(0.001)


def test_it_delivers_when_it_is_told_that_there_is_more(post, unhurried):
    deliverer = post.start()
    post.queue.history.on_more(deliverer.hint)
    cancelled(post)

    async def follow() -> None:
        running = asyncio.create_task(deliverer.run())
        await sent(post, 1)
        await asyncio.to_thread(cancelled, post)
        await sent(post, 2)
        deliverer.stop()
        await running

    uvloop.run(follow())
    # Nobody listens any more.
    cancelled(post)


def test_it_looks_now_and_then_by_itself_for_what_has_become_due(post, unhurried, monkeypatch):
    monkeypatch.setattr(deliverers, "_POLL_S", 0.001)
    cancelled(post)
    post.sender.failures = [NOBODY]
    deliverer = post.start()

    async def follow() -> None:
        running = asyncio.create_task(deliverer.run())
        await sent(post, 1)
        post.clock.now += 5
        await sent(post, 2)
        deliverer.stop()
        await running

    uvloop.run(follow())
    assert post.row().done_at == 1005.0


def test_a_database_that_is_away_or_a_mistake_ends_nothing(post, unhurried, monkeypatch, caplog):
    monkeypatch.setattr(deliverers, "_POLL_S", 0.001)
    claim, errors = Outbox.claim, [StoreUnavailableError(), ValueError("a mistake")]

    def failing(self: Outbox, *args: object):
        if errors:
            raise errors.pop(0)
        return claim(self, *args)

    monkeypatch.setattr(Outbox, "claim", failing)
    cancelled(post)
    deliverer = post.start()

    async def follow() -> None:
        running = asyncio.create_task(deliverer.run())
        await sent(post, 1)
        deliverer.stop()
        await running

    uvloop.run(follow())
    assert "a mistake" in caplog.text


def test_so_many_are_sent_at_once_and_of_one_client_no_more_than_its_part(post, unhurried):
    cancelled(post, "slow", CLIENT_AT_ONCE + 5)
    for client in range(AT_ONCE):
        cancelled(post, f"client {client}")
    deliverer = post.start()
    post.sender.open.clear()

    async def follow() -> None:
        running = asyncio.create_task(deliverer.run())
        await sent(post, AT_ONCE)
        for _ in range(20):
            deliverer.hint()
            await asyncio.sleep(0.001)
        assert len(post.sender.sent) == AT_ONCE
        secrets = [one.secret for one in post.sender.sent]
        assert secrets.count("the secret of slow") == CLIENT_AT_ONCE
        post.sender.open.set()
        await sent(post, CLIENT_AT_ONCE + 5 + AT_ONCE)
        deliverer.stop()
        await running

    uvloop.run(follow())
    assert len({one.id for one in post.sender.sent}) == len(post.sender.sent)


def test_many_hints_are_one_look(post, unhurried, monkeypatch):
    monkeypatch.setattr(deliverers, "_PAUSE_S", 1e6)
    looks: list[None] = []
    monkeypatch.setattr(Outbox, "claim", lambda *_: looks.append(None))
    deliverer = post.start()

    async def follow() -> None:
        running = asyncio.create_task(deliverer.run())
        for _ in range(50):
            await asyncio.sleep(0.001)
            deliverer.hint()
        running.cancel()

    uvloop.run(follow())
    assert len(looks) == 1
