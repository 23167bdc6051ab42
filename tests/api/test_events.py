"""What happens to tasks as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import uvloop
from fastapi.sse import ServerSentEvent

from hidream_server.api import events
from hidream_server.api.events import _of_all, _of_task, _Told
from hidream_server.api.links import Links
from hidream_server.api.streaming import stream, with_silences
from hidream_server.queue.housekeeping import HISTORY_S
from tests.api.support import problem_of, raw_scope
from tests.support import params, submit


def parse(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, each with its fields; comments are left out."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = [line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")]
        if lines:
            event = dict(lines)
            found.append(event | {"data": json.loads(event["data"])})
    return found


async def always() -> bool:
    return True


def get(client, task, last: int | None = None):
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    return client.get(f"/tasks/{task.id}/events", headers=headers)


def test_the_stream_of_a_task_that_has_ended_tells_all_and_ends(client, completed):
    task = completed(num_inference_steps=3)
    response = get(client, task)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    told = parse(response.text)
    assert [event["event"] for event in told] == [
        *("queued", "started", "step", "step", "step", "completed")
    ]
    steps = [event["data"] for event in told if event["event"] == "step"]
    assert [(data["step"], data["steps"]) for data in steps] == [(1, 3), (2, 3), (3, 3)]
    end = told[-1]["data"]
    assert end == {**client.get(f"/status/{task.id}").json(), "at": end["at"], "pictures": 1}
    assert all(event["data"]["task_id"] == task.id for event in told)


def test_who_has_heard_some_hears_the_rest_and_who_has_heard_all_need_not_come_again(
    client, completed
):
    task = completed(num_inference_steps=3)
    told = parse(get(client, task).text)
    for heard, event in enumerate(told, 1):
        response = get(client, task, int(event["id"]))
        if heard < len(told):
            assert parse(response.text) == told[heard:]
        else:
            assert response.status_code == 204


def test_of_a_task_that_ended_long_ago_the_end_is_told(client, queue, completed):
    task = completed()
    queue.history.forget(task.completed_at + HISTORY_S)
    [told] = parse(get(client, task).text)
    assert told["event"] == "completed"
    status = client.get(f"/status/{task.id}").json()
    assert told["data"] == status | {"at": told["data"]["at"], "pictures": 1}
    assert get(client, task, int(told["id"])).status_code == 204


@pytest.mark.parametrize("path", ["/events", "/tasks/{}/events"])
@pytest.mark.parametrize("wrong", ["yesterday", "-1", "1" + "0" * 20])
def test_what_is_no_event_id_is_refused(client, running, path, wrong):
    headers = {"Last-Event-ID": wrong}
    response = client.get(path.format(running().id), headers=headers)
    assert problem_of(response)["field"] == "last-event-id"


async def take(told: AsyncIterator[ServerSentEvent], count: int) -> list[ServerSentEvent]:
    async with asyncio.timeout(10):
        return [await anext(told) for _ in range(count)]


def test_a_queued_task_says_where_it_stands_and_how_it_comes_nearer(services, queue, monkeypatch):
    monkeypatch.setattr(events, "_POSITION_S", 0.01)
    first, task = submit(queue, [params(), params(seed=2, num_inference_steps=200)])

    async def follow() -> list[ServerSentEvent]:
        told = _Told(services, Links("http://here"))
        followed = await services.following.look(task.id)
        async with aclosing(_of_task(told, followed, 0)) as coming:
            heard = await take(coming, 1)
            queue.cancel(first.id)
            heard += await take(coming, 1)
            queue.cancel(task.id)
            return heard + [event async for event in coming]

    heard = uvloop.run(follow())
    assert [event.event for event in heard] == ["queued", "queued", "cancelled"]
    assert [event.data.get("queue_position") for event in heard] == [1, 0, None]
    assert heard[0].data["estimated_time"] > 0
    # What is not in the history cannot be gone on from.
    assert [event.id for event in heard] == ["2", None, "4"]


def test_a_new_preview_says_where_it_is(services, queue):
    [task] = submit(queue, [params(num_previews=1)])
    queue.claim("group", 1)
    queue.beat({(task.id, 1): 2}, [((task.id, 1), 0)])

    async def follow() -> list[ServerSentEvent]:
        followed = await services.following.look(task.id)
        async with aclosing(_of_task(_Told(services, Links("http://here")), followed, 0)) as coming:
            return await take(coming, 5)

    preview = uvloop.run(follow())[-1]
    assert preview.event == "preview"
    assert preview.data["image_index"] == 0
    assert preview.data["url"] == f"http://here/preview/{task.id}?image_index=0"


def test_all_tasks_are_told_in_one_stream_and_a_client_sees_its_own(services, queue):
    [mine] = submit(queue, [params()], "me")
    [other] = submit(queue, [params()], "other")

    async def follow(client: str | None, count: int) -> list[ServerSentEvent]:
        async with aclosing(_of_all(_Told(services, Links("")), 0, client)) as coming:
            return await take(coming, count)

    assert [e.data["task_id"] for e in uvloop.run(follow(None, 2))] == [mine.id, other.id]
    queue.cancel(other.id)
    queue.cancel(mine.id)
    assert [e.event for e in uvloop.run(follow("me", 2))] == ["queued", "cancelled"]


def test_a_stream_ends_with_a_word_when_the_server_stops(services, queue):
    [task] = submit(queue, [params()])

    async def follow(which: str) -> list[ServerSentEvent]:
        told = _Told(services, Links(""))
        followed = await services.following.look(task.id)
        coming = _of_task(told, followed, 0) if which == "one" else _of_all(told, 0, None)
        async with aclosing(coming):
            heard = await take(coming, 1)
            await services.feed.close()
            return heard + [event async for event in coming]

    for which in ("one", "all"):
        last = uvloop.run(follow(which))[-1]
        assert (last.event, last.retry) == ("closing", 2000)


def test_a_stream_on_which_nothing_happens_gives_signs_of_life():
    async def events() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(event="one", data={"text": "红"}, id="1")
        await asyncio.Event().wait()

    async def answer() -> list[bytes]:
        response = stream(events(), always, heartbeat_s=0.01)
        async with aclosing(response.body_iterator) as coming:
            return [await anext(coming) for _ in range(3)]

    first, *rest = uvloop.run(answer())
    assert first.decode() == 'event: one\ndata: {"text": "红"}\nid: 1\n\n'
    assert all(part.startswith(b":") and part.endswith(b"\n\n") for part in rest)


def test_a_stream_ends_when_its_reader_is_no_longer_allowed():
    allowed = [True, True, False]

    async def events() -> AsyncIterator[ServerSentEvent]:
        while True:
            yield ServerSentEvent(comment="news")
            await asyncio.sleep(0)

    async def may_go_on() -> bool:
        return allowed.pop(0)

    async def answer() -> None:
        response = stream(events(), may_go_on)
        assert len([part async for part in response.body_iterator]) == 2

    uvloop.run(answer())


def test_one_who_leaves_a_stream_leaves_no_trace(app, queue, caplog):
    """The framework cancels what it has, at every wait again, until it has ended."""
    [task] = submit(queue, [params()])

    async def visit() -> list[str]:
        gone, sent = asyncio.Event(), []

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["type"])
            if message["type"] == "http.response.body":
                gone.set()

        async with asyncio.timeout(10):
            await app(raw_scope(f"/tasks/{task.id}/events"), receive, send)
        return sent

    assert uvloop.run(visit())[0] == "http.response.start"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_source_is_left_in_order_when_its_reader_goes():
    left = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            left.append(True)

    async def read() -> None:
        async with aclosing(source()) as numbers, aclosing(with_silences(numbers, 0.01)) as coming:
            assert [await anext(coming) for _ in range(3)] == [1, None, None]

    uvloop.run(read())
    assert left == [True]
