"""Commands of a user's: a picture from a server that runs, or from none; its tasks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.server import Server

QUICK = ("--size", "512x512", "--steps", "3", "--seed", "7")


def hidream(
    folder: Path, *arguments: str, server: Server | None = None
) -> "subprocess.CompletedProcess[str]":
    where = () if server is None else ("--server", server.url)
    command = [sys.executable, "-m", "hidream_server", *arguments, *where]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


def test_a_picture_is_made_without_a_server_and_nothing_is_left(tmp_path, server) -> None:
    done = hidream(tmp_path, "generate", "a red circle", "-o", "x.png", *QUICK)
    assert (done.returncode, done.stdout) == (0, "x.png (seed 7)\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    asked = {"resolution": "512x512", "num_inference_steps": 3, "seed": 7}
    [same] = server.pictures(server.submit(prompt="a red circle", **asked))
    assert (tmp_path / "x.png").read_bytes() == same


def test_pictures_of_a_running_server_get_numbered_files(tmp_path, server) -> None:
    done = hidream(tmp_path, "generate", "a cat", "--images", "2", "--json", *QUICK, server=server)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["files"] == ["picture-0.png", "picture-1.png"]
    assert said["task"]["seeds"] == [7, 8]
    for name in said["files"]:
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (512, 512)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("generate", "a", "--steps", "0"), "num_inference_steps: 1 to 200"),
        (("generate", "a", "--infer-type", "Quick"), "infer_type: "),
        (("generate", "a", "-o", "no/such/folder.png", *QUICK), "no/such is no folder"),
        (("tasks", "show", "nothing"), "There is no task nothing."),
        (("tasks", "cancel", "nothing"), "There is no task nothing."),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_1(
    tmp_path, server, arguments, sentence
) -> None:
    done = hidream(tmp_path, *arguments, server=server)
    assert done.returncode == 1
    assert done.stderr.startswith("hidream: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there_is_said_by_the_command_itself(tmp_path) -> None:
    done = hidream(tmp_path, "generate", "a cat", "-m", "nowhere")
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_service_says_how_it_is(tmp_path, server) -> None:
    said = hidream(tmp_path, "status", server=server)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("HiDream-I1-Demo: healthy, 1 of 1 worker groups ready, ")
    assert ": cpu 0, tp1, healthy, HiDream-I1-Demo\n" in said.stdout
    found = json.loads(hidream(tmp_path, "status", "--json", server=server).stdout)
    [group] = found["groups"]
    assert (group["layout"], group["device_type"], group["ready"]) == ("tp1", "cpu", True)


def test_tasks_are_watched_listed_shown_and_cancelled(tmp_path, server) -> None:
    long = "a long prompt that wants all the room there is in a line of a terminal " * 2
    server.submit(prompt=long, resolution="512x512", num_inference_steps=3)
    quick = server.submit(prompt="a quick task", resolution="512x512", num_inference_steps=3)
    watched = hidream(tmp_path, "tasks", "watch", quick, server=server)
    assert watched.returncode == 0, watched.stderr
    assert watched.stdout.splitlines()[-1].startswith("completed, step 3 of 3, http://")
    slow = server.submit(prompt="a slow task", num_inference_steps=200)
    cancelled = hidream(tmp_path, "tasks", "cancel", slow, "--json", server=server)
    assert json.loads(cancelled.stdout)["status"] == "cancelled"
    assert hidream(tmp_path, "tasks", "watch", slow, server=server).returncode == 1
    shown = hidream(tmp_path, "tasks", "show", quick, server=server)
    assert "prompt: a quick task\n" in shown.stdout
    listed = hidream(tmp_path, "tasks", "list", "--state", "cancelled", "--json", server=server)
    assert slow in [json.loads(line)["task_id"] for line in listed.stdout.splitlines()]
    assert quick in hidream(tmp_path, "tasks", "list", server=server).stdout
