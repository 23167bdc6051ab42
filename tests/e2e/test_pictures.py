"""From a prompt to a picture over HTTP: the one that was asked for, to the byte."""

import io
import math
import os
import signal
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from tests.e2e.server import Server
from tests.reference import reference_picture, stock_pipeline
from tests.support import params, psnr

SIZES = ["1024x1024", "1024x768", "768x1024", "512x512"]


def pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("resolution", SIZES)
def test_a_picture_has_the_size_asked_for(server: Server, resolution: str) -> None:
    task_id = server.submit(resolution=resolution, num_inference_steps=2)
    [data] = server.pictures(task_id)
    with Image.open(io.BytesIO(data)) as image:
        assert f"{image.width}x{image.height}" == resolution
        assert image.text["resolution"] == resolution
        assert "demo" in image.text["notice"]


def test_a_picture_equals_the_plain_loop(server: Server) -> None:
    task_id = server.submit(
        resolution="512x512", num_inference_steps=6, guidance_scale=3.5, seed=9, negative_prompt="x"
    )
    [data] = server.pictures(task_id)
    task = params(
        prompt="a red circle",
        negative_prompt="x",
        num_inference_steps=6,
        guidance_scale=3.5,
        seed=9,
    )
    expected = reference_picture(stock_pipeline(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH), task)
    np.testing.assert_array_equal(pixels(data), expected)


def test_the_same_seed_twice_gives_the_same_file(server: Server) -> None:
    request = {"resolution": "512x512", "num_inference_steps": 3, "seed": 5}
    first, second = server.submit(**request), server.submit(**request)
    assert server.pictures(first) == server.pictures(second)


def test_two_images_are_seed_and_seed_plus_one(server: Server) -> None:
    request = {"resolution": "512x512", "num_inference_steps": 3}
    both = server.submit(**request, seed=70, num_images_per_prompt=2)
    singles = [server.submit(**request, seed=seed) for seed in (70, 71)]
    pair = server.pictures(both)
    assert len(pair) == 2
    for data, single in zip(pair, singles, strict=True):
        [alone] = server.pictures(single)
        np.testing.assert_array_equal(pixels(data), pixels(alone))
    assert server.status(both)["seeds"] == [70, 71]


def test_a_drawn_seed_is_reported_and_gives_the_picture_again(server: Server) -> None:
    request = {"resolution": "512x512", "num_inference_steps": 3}
    drawn = server.submit(**request)
    [seed] = server.status(drawn)["seeds"]
    assert server.pictures(server.submit(**request, seed=seed)) == server.pictures(drawn)


def test_variant_defaults_are_used_and_written_into_the_picture(server: Server) -> None:
    [data] = server.pictures(server.submit(resolution="256x256"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.text["num_inference_steps"] == "50"
        assert image.text["guidance_scale"] == "5.0"
        assert image.text["variant"] == "Full"


def test_progress_moves_with_the_steps_and_is_100_only_with_the_picture(server: Server) -> None:
    task_id = server.submit(resolution="1024x1024", num_inference_steps=20)
    seen = set()
    while (status := server.status(task_id))["status"] != "completed":
        assert status["progress"] < 100
        assert status["result_urls"] == []
        seen.add(status["progress"])
    assert status["progress"] == 100
    assert len(seen) > 2
    [url] = status["result_urls"]
    assert url.startswith(f"http://127.0.0.1:{server.port}/images/")


def test_profiling_tells_the_seconds_of_each_stage(server: Server) -> None:
    request = {"resolution": "512x512", "num_inference_steps": 2}
    profiled = server.submit(**request, infer_type="Profiling")
    plain = server.submit(**request)
    timings = server.wait_status(profiled, "completed")["timings"]
    assert set(timings) == {"encode_s", "denoise_s", "decode_s", "save_s"}
    assert all(seconds > 0 for seconds in timings.values())
    assert server.wait_status(plain, "completed")["timings"] is None


def test_a_picture_for_performance_reuses_steps_on_two_ranks_and_after_a_crash(
    new_server: Callable[..., Server],
) -> None:
    server = new_server("--step-cache", "0.05", "--fp8", "--checkpoint-s", "0.1", "-c", "2")
    server.start()
    server.wait_for("/readyz")
    request = {"resolution": "512x512", "num_inference_steps": 40, "seed": 11}
    exact, quick = server.submit(**request), server.submit(**request, infer_type="Performance")
    [exact_picture], [picture] = server.pictures(exact), server.pictures(quick)
    reused = server.status(quick)["reused_steps"]
    assert 5 < reused < 28
    assert server.status(exact)["reused_steps"] is None
    assert 20 < psnr(pixels(picture), pixels(exact_picture)) < 60
    with Image.open(io.BytesIO(picture)) as image:
        assert image.text["reused_steps"] == str(reused)
        assert image.text["precision"] == "fp8"
    with Image.open(io.BytesIO(exact_picture)) as image:
        assert not {"reused_steps", "precision"} & image.text.keys()
    again = server.submit(**request, infer_type="Performance")
    server.wait_status(again, "processing", progress=40)
    os.kill(server.ranks()[1], signal.SIGKILL)
    assert server.pictures(again) == [picture]
    assert (server.status(again)["attempt"], server.status(again)["reused_steps"]) == (2, reused)
    assert "goes on after step" in server.console()


def test_a_batch_is_painted_whole(server: Server) -> None:
    request = {
        "prompt": "A cat",
        "resolution": "256x256",
        "num_inference_steps": 2,
        "batch_size": 2,
    }
    answer = server.client.post("/batch_submit", json={"requests": [request, request]})
    assert answer.status_code == 200
    for accepted in answer.json():
        assert accepted["status"] == "queued"
        assert accepted["requestId"] == accepted["task_id"]
        assert accepted["estimated_time"] > 0
        assert len(server.pictures(accepted["task_id"])) == 1


def test_a_task_passes_others_where_its_deadline_asks_for_it(server: Server) -> None:
    long = [server.submit(resolution="512x512", num_inference_steps=30) for _ in range(12)]
    server.wait_status(long[0], "processing", progress=3)
    late = server.client.post("/submit", json={"prompt": "a", "resolution": "256x256"}).json()
    body = {"prompt": "a", "resolution": "512x512", "num_inference_steps": 30}
    refused = server.client.post("/submit", json=body | {"deadline_s": 0.1})
    [problem] = refused.json()["error"]["problems"]
    least = float(problem["allowed"].removeprefix("at least ").removesuffix(" as things are"))
    estimate = server.status(long[-1])["estimated_time"]
    # As far from both as can be: the machine may turn three times slower or faster meanwhile.
    deadline_s = math.sqrt(least * estimate)
    assert least < deadline_s < estimate
    urgent = server.client.post("/submit", json=body | {"deadline_s": deadline_s})
    assert urgent.status_code == 200, urgent.text
    server.wait_status(urgent.json()["task_id"], "completed")
    assert server.status(long[-1])["status"] != "completed"
    for task_id in (*long, late["task_id"]):
        server.client.post(f"/tasks/{task_id}/cancel")
