"""A server whose pictures are painted by a project of the user's, started for each task."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.server import Server

PROJECT = Path(__file__).parents[1] / "project" / "stand_in"


@pytest.fixture
def project(new_server: Callable[..., Server]) -> Server:
    server = new_server("-t", "cpu", "-c", "2", "--executor", "project", "-p", str(PROJECT))
    server.start()
    server.wait_for("/readyz")
    return server


def test_two_ranks_paint_and_where_they_fail_one_does(project: Server) -> None:
    """The stand-in's colours say the seed, how many ranks met, and the steps."""
    request = {"resolution": "512x512", "num_inference_steps": 3, "seed": 7}
    together = project.submit(prompt="a red circle", **request, num_images_per_prompt=2)
    alone = project.submit(prompt="fail on many", **request)
    never = project.submit(prompt="fail", **request)
    colours = [
        Image.open(BytesIO(data)).getpixel((9, 9))
        for task_id in (together, alone)
        for data in project.pictures(task_id)
    ]
    assert colours == [(7, 2, 3), (8, 2, 3), (7, 1, 3)]
    failed = project.wait_status(never, "failed")
    assert "this prompt cannot be painted" in failed["error"]
    assert project.client.get("/readyz").status_code == 200
