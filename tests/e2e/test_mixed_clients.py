"""Clients of all kinds at once: every picture is the one it would have been by itself.

A short run here; `--mixed-s 120` makes it two minutes.
"""

import io
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.e2e.server import Server
from tests.support import psnr

CLIENTS = 8
PROMPTS = ("a red circle on a blue background", "一个绿色的方块", "A mountain landscape at night")
SIZES = ("512x512", "256x256", "1024x768", "768x1024", "1024x1024")


@dataclass
class Log:
    """What the clients asked for and got."""

    #: Pictures by what was asked for.
    pictures: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    cancelled: int = 0
    troubles: list[str] = field(default_factory=list)


def request(draw: random.Random) -> dict[str, Any]:
    """Return a request like those of many people, short ones more often."""
    return {
        "prompt": draw.choice(PROMPTS),
        "resolution": draw.choice(SIZES),
        "num_inference_steps": draw.choice((1, 2, 4, 8, 16)),
        "guidance_scale": draw.choice((0.0, 5.0)),
        "num_images_per_prompt": draw.choice((1, 1, 1, 2)),
        "seed": draw.randrange(1000),
        "priority": draw.choice(("low", "normal", "normal", "high")),
        "num_previews": draw.choice((0, 0, 2)),
    }


def client(server: Server, number: int, until: float, log: Log) -> None:
    """Ask for one picture after the other; change one's mind now and then."""
    draw = random.Random(number)
    with httpx2.Client(base_url=server.client.base_url, timeout=60) as http:
        while time.monotonic() < until:
            asked = request(draw)
            task_id = http.post("/submit", json=asked).raise_for_status().json()["task_id"]
            if draw.random() < 0.2:
                time.sleep(draw.random() / 2)
                http.post(f"/tasks/{task_id}/cancel")
            follow(http, task_id, asked, log)


def follow(http: httpx2.Client, task_id: str, asked: dict[str, Any], log: Log) -> None:
    """Wait for the end of a task and take note of it."""
    while (status := http.get(f"/status/{task_id}").json())["status"] in ("queued", "processing"):
        time.sleep(0.05)
    if status["status"] == "cancelled":
        log.cancelled += 1
    elif status["status"] == "completed":
        urls = status["result_urls"]
        assert len(urls) == asked["num_images_per_prompt"]
        for index, url in enumerate(urls):
            single = asked | {"seed": asked["seed"] + index, "num_images_per_prompt": 1}
            log.pictures.append((single, http.get(url).raise_for_status().content))
    else:
        log.troubles.append(f"{task_id}: {status['error']}")


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@pytest.mark.timeout(3600)
def test_pictures_are_the_same_in_company_as_alone(
    server: Server, new_server: Callable[..., Server], mixed_s: float
) -> None:
    busy = new_server(HIDREAM_MAX_ROWS="8")
    busy.start()
    busy.wait_for("/readyz")
    log, until = Log(), time.monotonic() + mixed_s
    clients = [
        threading.Thread(target=client, args=(busy, number, until, log))
        for number in range(CLIENTS)
    ]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert busy.client.get("/health").json()["status"] == "healthy"
    assert busy.stop() == 0

    assert not log.troubles
    assert log.pictures
    ratios = [
        psnr(pixels(data), pixels(server.pictures(server.submit(**asked))[0]))
        for asked, data in log.pictures
    ]
    same = sum(ratio == float("inf") for ratio in ratios)
    print(
        f"{len(ratios)} pictures, {same} of them the same in every pixel, the others at least"
        f" {min(ratios):.1f} dB; {log.cancelled} tasks cancelled"
    )
    assert min(ratios) >= 40
