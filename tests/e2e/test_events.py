"""Events over a real socket: every step is shown, and whoever comes again misses nothing."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from tests.e2e.server import Server

STEPS = 40
BODY = {"resolution": "512x512", "num_inference_steps": STEPS, "num_previews": 2, "seed": 5}


def parse(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream as they come."""
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.rstrip("\n").partition(": ")
        if name:
            event[name] = value
        elif "data" in event:
            yield event | {"data": json.loads(event["data"])}
            event = {}
        else:
            event = {}


def steps(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["step"] for event in events if event["event"] == "step"]


def test_curl_shows_every_step(server: Server) -> None:
    task_id = server.submit(**BODY)
    url = f"{server.client.base_url}/tasks/{task_id}/events"
    shown = subprocess.run(["curl", "-sN", url], capture_output=True, text=True, timeout=180)
    events = list(parse(iter(shown.stdout.splitlines(keepends=True))))
    assert steps(events) == list(range(1, STEPS + 1))
    kinds = [event["event"] for event in events]
    assert kinds[0] == "queued"
    assert kinds[-1] == "completed"
    assert kinds.count("preview") == 2
    [picture] = events[-1]["data"]["result_urls"]
    assert server.client.get(picture).status_code == 200


def test_who_comes_again_after_the_server_was_killed_misses_nothing(
    new_server: Callable[..., Server],
) -> None:
    server = new_server("--checkpoint-s", "0.2")
    server.start()
    server.wait_for("/readyz")
    task_id = server.submit(**BODY | {"num_images_per_prompt": 3})
    heard: list[dict[str, Any]] = []
    for stop_after in (40, None):
        heard += listen(server, task_id, heard, stop_after)
        if stop_after is not None:
            server.kill()
            server.start()
            server.wait_for("/livez")
    written = listen(server, task_id, [], None)
    # What was heard in two parts, the server's end in between, is what happened.
    assert [event["id"] for event in heard if "id" in event] == [e["id"] for e in written]
    assert written[-1]["event"] == "completed"
    attempts = [event["data"]["attempt"] for event in written if event["event"] == "started"]
    assert attempts == [1, 2]
    assert steps(written)[-1] == 3 * STEPS


def listen(
    server: Server, task_id: str, heard: list[dict[str, Any]], count: int | None
) -> list[dict[str, Any]]:
    """Follow a task on from what was heard, for so many events or to its end."""
    ids = [event["id"] for event in heard if "id" in event]
    headers = {"Last-Event-ID": ids[-1]} if ids else {}
    events: list[dict[str, Any]] = []
    path = f"/tasks/{task_id}/events"
    with server.client.stream("GET", path, headers=headers, timeout=httpx2.Timeout(180)) as answer:
        for event in parse(answer.iter_lines()):
            events.append(event)
            if len(events) == count:
                break
    return events
