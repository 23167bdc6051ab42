"""Clients of a soak: they submit, repeat what may not have arrived, cancel, follow and fetch.

Each takes note of what was promised to it and what it got.
"""

import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2

#: How long one client may be without any answer before that counts as trouble, in seconds.
PATIENCE_S = 300.0
POISON = "poison"


def catalogue(count: int, seed: int) -> list[dict[str, Any]]:
    """Return requests to choose from, few enough for each to be painted by itself, too."""
    draw = random.Random(seed)
    return [
        {
            "prompt": draw.choice(("a red circle", "一个绿色的方块", "A lake at night")),
            "resolution": draw.choice(("256x256", "256x256", "512x512", "512x256")),
            "num_inference_steps": draw.choice((1, 4, 8, 16, 30)),
            "guidance_scale": draw.choice((0.0, 5.0)),
            "num_images_per_prompt": draw.choice((1, 1, 2)),
            "seed": number,
        }
        for number in range(count)
    ]


@dataclass
class Promise:
    """A task that was accepted, and what became of it."""

    task_id: str
    asked: dict[str, Any]
    cancelled: bool = False
    end: dict[str, Any] = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)


@dataclass
class Notes:
    """What all clients noted."""

    promises: list[Promise] = field(default_factory=list)
    #: Answers by status, 0 for none.
    answers: Counter[int] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    #: How many submissions were sent again although they had been answered.
    repeated: int = 0


class Client:
    """One of many; `run` in a thread of its own."""

    def __init__(self, number: int, address: str, wares: list[dict[str, Any]], notes: Notes):
        self._draw = random.Random(number)
        self._http = httpx2.Client(base_url=address, timeout=10)
        self._wares = wares
        self._notes = notes

    def run(self, until: float, over: threading.Event) -> None:
        """Ask for one picture after the other; note what was not as promised."""
        try:
            while time.monotonic() < until:
                self._one_task(over)
        except Exception as error:
            self._notes.troubles.append(f"a client gave up: {error!r}")
        finally:
            self._http.close()

    def _one_task(self, over: threading.Event) -> None:
        asked = self._draw.choice(self._wares)
        if self._draw.random() < 0.02:
            asked = asked | {"prompt": POISON}
        promise = Promise(self._submit(asked), asked)
        self._notes.promises.append(promise)
        if self._draw.random() < 0.1:
            over.wait(self._draw.random())
            promise.cancelled = self._ask("POST", f"/tasks/{promise.task_id}/cancel") != {}
        self._follow(promise)

    def _submit(self, asked: dict[str, Any]) -> str:
        """Submit until it is accepted; now and then send once more what was accepted."""
        named: dict[str, Any] = {"headers": {"Idempotency-Key": str(uuid.uuid4())}, "json": asked}
        if self._draw.random() < 0.3:
            named = {"json": asked | {"task_id": str(uuid.uuid4())}}
        answer = self._ask("POST", "/submit", **named)
        if self._draw.random() < 0.2:
            self._notes.repeated += 1
            again = self._ask("POST", "/submit", **named)
            if again["task_id"] != answer["task_id"]:
                self._notes.troubles.append(f"{answer['task_id']} was accepted twice")
        return str(answer["task_id"])

    def _follow(self, promise: Promise) -> None:
        """Wait for the end of a task, and fetch its pictures."""
        path = f"/status/{promise.task_id}"
        while (status := self._ask("GET", path))["status"] in ("queued", "processing"):
            time.sleep(0.1)
        promise.end = status
        for url in status["result_urls"]:
            answer = self._answer("GET", url)
            promise.pictures.append(answer.content if answer.status_code == 200 else b"")
            if answer.status_code != 200:
                self._notes.troubles.append(f"{url}: {answer.status_code}")

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Return the JSON of a good answer, {} if there is nothing to be done any more."""
        answer = self._answer(method, path, **request)
        if answer.status_code == 409:
            return {}
        if answer.status_code != 200:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        body: dict[str, Any] = answer.json()
        return body

    def _answer(self, method: str, path: str, **request: Any) -> httpx2.Response:
        """Ask until the server answers and is not too busy, as it says itself when to."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = self._http.request(method, path, **request)
            except httpx2.TransportError:
                self._notes.answers[0] += 1
                time.sleep(0.3)
                continue
            self._notes.answers[answer.status_code] += 1
            if answer.status_code not in (429, 503):
                return answer
            time.sleep(min(5.0, float(answer.headers["Retry-After"])))
        raise TimeoutError(f"{method} {path}: no answer in {PATIENCE_S:.0f} s")
