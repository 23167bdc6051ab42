"""Tries the whole API of a running server: health, one task with two images, a batch.

Needs nothing but Python: python3 examples/test_api.py [--url http://localhost:8088]
Exits 0 if everything worked, 1 with one line that says what did not.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class ApiError(Exception):
    """The server could not be reached, or did not do what it documents."""


def call(url: str, body: dict[str, Any] | None = None) -> bytes:
    """GET a URL, or POST a JSON body to it; return the answer's body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise ApiError(f"{url} answered {error.code}: {error.read().decode()}") from error
    except OSError as error:
        raise ApiError(f"{url} cannot be reached: {error}") from error


def check(fact: bool, otherwise: str) -> None:
    if not fact:
        raise ApiError(otherwise)


def check_health(base: str) -> None:
    health = json.loads(call(f"{base}/health"))
    model, device = health["model"], health["device"]
    print(f"Health: {health['status']}, {model['name']} on {device['type']}")
    if model["notice"]:
        print(f"        {model['notice']}")


def wait(base: str, task_id: str, patience_s: float) -> dict[str, Any]:
    """Follow a task to its end; return its last status."""
    deadline = time.monotonic() + patience_s
    shown = None
    while time.monotonic() < deadline:
        status: dict[str, Any] = json.loads(call(f"{base}/status/{task_id}"))
        if (status["status"], status["progress"]) != shown:
            shown = (status["status"], status["progress"])
            print(f"  {task_id}: {shown[0]}, {shown[1]} %")
        if status["status"] == "completed":
            return status
        check(status["status"] != "failed", f"task {task_id} failed: {status['error']}")
        time.sleep(0.5)
    raise ApiError(f"task {task_id} was not done in {patience_s:.0f} s")


def check_pictures(status: dict[str, Any], count: int) -> None:
    urls = status["result_urls"]
    check(len(urls) == count, f"expected {count} pictures, got {len(urls)}")
    for url, seed in zip(urls, status["seeds"], strict=True):
        data = call(url)
        check(data.startswith(PNG_SIGNATURE), f"{url} is not a PNG")
        print(f"  seed {seed}: {url} ({len(data)} bytes)")


def check_single(base: str, patience_s: float) -> None:
    print("One task with two images")
    request = {
        "prompt": "A beautiful sunset over a mountain landscape",
        "resolution": "1024x1024",
        "num_inference_steps": 30,
        "num_images_per_prompt": 2,
        "seed": 42,
    }
    accepted = json.loads(call(f"{base}/submit", request))
    print(f"  accepted, about {accepted['estimated_time']} s")
    check_pictures(wait(base, accepted["task_id"], patience_s), 2)


def check_batch(base: str, patience_s: float) -> None:
    print("A batch of two")
    prompts = ["A mountain landscape", "A red circle on a blue background"]
    requests = [{"prompt": prompt, "num_inference_steps": 25} for prompt in prompts]
    for accepted in json.loads(call(f"{base}/batch_submit", {"requests": requests})):
        check_pictures(wait(base, accepted["task_id"], patience_s), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://localhost:8088")
    parser.add_argument("--key", default=os.environ.get("HIDREAM_API_KEY"), help="an API key")
    parser.add_argument("--patience", type=float, default=900, help="seconds to wait for a task")
    options = parser.parse_args()
    base = options.url.rstrip("/")
    if options.key:
        opener = urllib.request.build_opener()
        opener.addheaders = [("Authorization", f"Bearer {options.key}")]
        urllib.request.install_opener(opener)
    try:
        check_health(base)
        check_single(base, options.patience)
        check_batch(base, options.patience)
    except ApiError as error:
        sys.exit(f"Failed: {error}")
    print("Everything works.")


if __name__ == "__main__":
    main()
