"""Many who ask about tasks at once, and the few reads they are answered from."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
import uvloop

from hidream_server.api.following import Following
from hidream_server.errors import StoreUnavailableError, TaskNotFoundError
from hidream_server.task import Task
from tests.support import params, submit


class Reads:
    """Counts the reads of a queue, and lets none through until it is told."""

    def __init__(self, queue, monkeypatch) -> None:
        self.asked: list[list[str]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        find = queue.find

        def slow(task_ids: Sequence[str]) -> list[Task]:
            self.asked.append(list(task_ids))
            self.begun.set()
            assert self.go.wait(10)
            found: list[Task] = find(task_ids)
            return found

        monkeypatch.setattr(queue, "find", slow)


@pytest.fixture
def reads(queue, monkeypatch) -> Reads:
    return Reads(queue, monkeypatch)


async def begun(reads: Reads) -> None:
    assert await asyncio.to_thread(reads.begun.wait, 10)


def test_all_who_ask_during_a_read_are_answered_by_the_next_one(queue, reads):
    ids = [task.id for task in submit(queue, [params(), params(seed=2)])]

    async def ask() -> list[str]:
        following = Following(queue)
        first = asyncio.create_task(following.look(ids[0]))
        await begun(reads)
        rest = [asyncio.create_task(following.look(ids[n % 2])) for n in range(50)]
        await asyncio.sleep(0)
        reads.go.set()
        return [found.task.id for found in await asyncio.gather(first, *rest)]

    assert uvloop.run(ask()) == [ids[0], *[ids[n % 2] for n in range(50)]]
    assert reads.asked == [[ids[0]], ids]


def test_who_asks_after_a_change_sees_it_though_a_read_was_under_way(queue, reads):
    [task] = submit(queue, [params()])

    async def ask() -> list[str]:
        following = Following(queue)
        before = asyncio.create_task(following.look(task.id))
        await begun(reads)
        queue.cancel(task.id)
        after = asyncio.create_task(following.look(task.id))
        await asyncio.sleep(0)
        reads.go.set()
        await before
        return (await after).task.state

    assert uvloop.run(ask()) == "cancelled"
    assert len(reads.asked) == 2


def test_one_who_leaves_keeps_no_answer_from_the_others(queue, reads):
    [task] = submit(queue, [params()])

    async def ask() -> str:
        following = Following(queue)
        leaver = asyncio.create_task(following.look(task.id))
        stayer = asyncio.create_task(following.look(task.id))
        await begun(reads)
        leaver.cancel()
        reads.go.set()
        return (await stayer).task.id

    assert uvloop.run(ask()) == task.id


def test_a_task_that_is_not_there_is_said_to_be_none(queue, reads):
    reads.go.set()
    [task] = submit(queue, [params()])

    async def ask() -> list[object]:
        following = Following(queue)
        looks = [following.look(name) for name in ("no-id", task.id)]
        return await asyncio.gather(*looks, return_exceptions=True)

    missing, found = uvloop.run(ask())
    assert isinstance(missing, TaskNotFoundError)
    assert found.position == 0
    assert found.seconds_left > 0


def test_trouble_reaches_all_who_asked_and_none_who_ask_later(queue, monkeypatch):
    [task] = submit(queue, [params()])
    trouble = [StoreUnavailableError()]
    find = queue.find

    def failing_once(task_ids: Sequence[str]) -> list[Task]:
        if trouble:
            raise trouble.pop()
        found: list[Task] = find(task_ids)
        return found

    monkeypatch.setattr(queue, "find", failing_once)

    async def ask() -> list[object]:
        following = Following(queue)
        looks = [following.look(task.id) for _ in range(2)]
        failed = await asyncio.gather(*looks, return_exceptions=True)
        return [*failed, await following.look(task.id)]

    *failed, found = uvloop.run(ask())
    assert all(isinstance(error, StoreUnavailableError) for error in failed)
    assert found.task.id == task.id
