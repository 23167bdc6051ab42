"""What happens to tasks, carried to many streams by one reader."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import uvloop

from hidream_server.api import feed as feeds
from hidream_server.api.feed import Feed
from hidream_server.errors import StoreUnavailableError
from hidream_server.store.history import Entry, Happened
from tests.support import params, submit


@pytest.fixture
def feed(queue) -> Feed:
    return Feed(queue.history)


async def take(entries: AsyncIterator[Entry], count: int) -> list[Entry]:
    async with asyncio.timeout(10):
        return [await anext(entries) for _ in range(count)]


def what(entries: list[Entry]) -> list[str]:
    return [
        f"{entry.what} {entry.about['step']}" if entry.what is Happened.STEP else str(entry.what)
        for entry in entries
    ]


def test_a_task_is_told_from_its_submission_to_its_end(queue, feed):
    [task] = submit(queue, [params()])

    async def follow() -> list[Entry]:
        async with aclosing(feed.follow(0, task_id=task.id)) as entries:
            first = await take(entries, 1)
            queue.claim("group", 1)
            queue.beat({(task.id, 1): 2}, [((task.id, 1), 0)])
            queue.complete((task.id, 1), ["a.png"], {})
            return first + await take(entries, 7)

    told = uvloop.run(follow())
    steps = ["step 1", "step 2", "preview", "step 3", "step 4"]
    assert what(told) == ["queued", "started", *steps, "completed"]
    assert told[1].about == {"attempt": 1}
    assert told[2].about == {"step": 1, "steps": 4}
    numbers = [entry.number for entry in told]
    assert numbers == sorted(set(numbers))


def test_who_says_what_it_heard_last_misses_nothing_and_hears_nothing_twice(queue, feed):
    [task] = submit(queue, [params(num_inference_steps=40)])
    queue.claim("group", 1)

    async def follow() -> list[Entry]:
        heard: list[Entry] = []
        done = 0
        while done < 40:
            after = heard[-1].number if heard else 0
            async with aclosing(feed.follow(after, task_id=task.id)) as entries:
                done += 4
                queue.beat({(task.id, 1): done})
                heard += await take(entries, 5 if done == 4 else 3)
                # The rest happens while nobody listens, some of it is already on the way.
        async with aclosing(feed.follow(heard[-1].number, task_id=task.id)) as entries:
            return heard + await take(entries, 42 - len(heard))

    assert what(uvloop.run(follow())) == [
        "queued",
        "started",
        *(f"step {step}" for step in range(1, 41)),
    ]


def test_what_happened_before_is_told_only_if_it_is_asked_for(queue, feed):
    submit(queue, [params()])

    async def follow() -> list[Entry]:
        async with aclosing(feed.follow()) as entries:
            coming = asyncio.ensure_future(take(entries, 1))
            while not feed._streams:
                await asyncio.sleep(0)
            submit(queue, [params(seed=2)])
            return await coming

    [told] = uvloop.run(follow())
    assert told.number == 2


def test_a_client_hears_of_its_own_tasks_only(queue, feed):
    async def follow() -> list[Entry]:
        async with aclosing(feed.follow(0, client="mine")) as entries:
            first = asyncio.ensure_future(take(entries, 2))
            for client in ("other", "mine", "other", "mine"):
                await asyncio.to_thread(submit, queue, [params()], client)
            return await first

    submit(queue, [params()], "other")
    assert [entry.client for entry in uvloop.run(follow())] == ["mine", "mine"]


def test_a_history_of_many_pages_is_told_in_order(queue, feed, monkeypatch):
    monkeypatch.setattr(feeds, "_AT_ONCE", 3)
    [task] = submit(queue, [params(num_inference_steps=20)])
    queue.claim("group", 1)
    queue.beat({(task.id, 1): 20})

    async def follow() -> list[Entry]:
        async with aclosing(feed.follow(0, task_id=task.id)) as entries:
            return await take(entries, 22)

    assert what(uvloop.run(follow()))[2:] == [f"step {step}" for step in range(1, 21)]


def test_one_reader_serves_many_streams_and_stops_with_the_last(queue, feed, monkeypatch):
    [task] = submit(queue, [params()])
    reads = []
    after = queue.history.after

    def counted(number, count, task_id=None, client=None, settled=False):
        reads.append(task_id)
        return after(number, count, task_id, client, settled)

    monkeypatch.setattr(queue.history, "after", counted)

    async def listen() -> Entry:
        async with aclosing(feed.follow(task_id=task.id)) as entries:
            return (await take(entries, 1))[0]

    async def follow() -> list[Entry]:
        listeners = [asyncio.ensure_future(listen()) for _ in range(50)]
        while len(feed._streams) < 50:
            await asyncio.sleep(0)
        reads.clear()
        queue.claim("group", 1)
        heard = await asyncio.gather(*listeners)
        assert feed._reading is None
        return list(heard)

    assert what(uvloop.run(follow())) == ["started"] * 50
    assert len(reads) <= 4


def test_a_reader_that_is_too_slow_is_sent_away_and_can_go_on_from_where_it_was(
    queue, feed, monkeypatch
):
    monkeypatch.setattr(feeds, "_MOST_WAITING", 5)
    [task] = submit(queue, [params(num_inference_steps=30)])
    queue.claim("group", 1)

    async def follow() -> list[Entry]:
        heard: list[Entry] = []
        async with aclosing(feed.follow(0, task_id=task.id)) as entries:
            heard += await take(entries, 2)
            queue.beat({(task.id, 1): 30})
            while feed._streams:
                await asyncio.sleep(0.001)
            heard += [entry async for entry in entries]
        async with aclosing(feed.follow(heard[-1].number, task_id=task.id)) as entries:
            return heard + await take(entries, 32 - len(heard))

    assert what(uvloop.run(follow()))[2:] == [f"step {step}" for step in range(1, 31)]


def test_a_mistake_ends_the_streams_instead_of_leaving_them_silent(queue, feed, monkeypatch):
    [task] = submit(queue, [params()])
    after = queue.history.after

    def failing(number, count, task_id=None, client=None, settled=False):
        if task_id is None:
            raise OSError(5, "Input/output error")
        return after(number, count, task_id, client, settled)

    monkeypatch.setattr(queue.history, "after", failing)

    async def follow() -> list[Entry]:
        async with asyncio.timeout(10):
            return [entry async for entry in feed.follow(0, task_id=task.id)]

    assert what(uvloop.run(follow())) == ["queued"]


def test_a_feed_that_is_closed_has_told_all_that_was_written(queue, feed):
    [task] = submit(queue, [params()])

    async def follow() -> list[Entry]:
        async with aclosing(feed.follow(0, task_id=task.id)) as entries:
            heard = await take(entries, 1)
            queue.cancel(task.id)
            await feed.close()
            return heard + [entry async for entry in entries]

    assert what(uvloop.run(follow())) == ["queued", "cancelled"]


def test_who_comes_after_the_end_of_a_feed_is_not_kept(queue, feed):
    [task] = submit(queue, [params()])

    async def follow() -> list[Entry]:
        await feed.close()
        async with asyncio.timeout(10):
            await feed.ended(task.id)
            return [entry async for entry in feed.follow(0, task_id=task.id)]

    assert uvloop.run(follow()) == []


def test_a_database_that_is_away_ends_no_stream(queue, feed, monkeypatch):
    [task] = submit(queue, [params()])
    monkeypatch.setattr(feeds, "_POLL_S", 0.001)
    after, away = queue.history.after, [StoreUnavailableError()] * 3

    def failing(number, count, task_id=None, client=None, settled=False):
        if task_id is None and away:
            raise away.pop()
        return after(number, count, task_id, client, settled)

    monkeypatch.setattr(queue.history, "after", failing)

    async def follow() -> list[Entry]:
        async with aclosing(feed.follow(0, task_id=task.id)) as entries:
            heard = await take(entries, 1)
            queue.cancel(task.id)
            return heard + await take(entries, 1)

    assert what(uvloop.run(follow())) == ["queued", "cancelled"]
    assert away == []
