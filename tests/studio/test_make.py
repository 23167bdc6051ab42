"""Write a prompt, watch the picture appear: the form and the cards."""

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.server import Server
from tests.studio.studio import PICTURE_MS, Studio, task_of, width


@pytest.fixture
def studio(new_page: Callable[..., Page], server: Server) -> Studio:
    return Studio(new_page(server.url))


def test_a_picture_appears_step_by_step_and_stays(studio: Studio) -> None:
    card = studio.make("a red circle that grows", num_inference_steps=60)
    expect(card).to_contain_text(re.compile(r"step \d+ of 60"), timeout=PICTURE_MS)
    bar = card.get_by_role("progressbar")
    assert 0 <= int(bar.get_attribute("aria-valuenow") or "-1") < 100
    unfinished = card.get_by_role("img", name="Unfinished: a red circle that grows")
    expect(unfinished).to_be_visible(timeout=PICTURE_MS)
    first = unfinished.get_attribute("src")
    assert width(unfinished) > 0
    expect(unfinished).not_to_have_attribute("src", first or "", timeout=PICTURE_MS)
    assert width(studio.finished("a red circle that grows")) == 512
    expect(card).to_contain_text("completed")
    expect(bar).to_have_count(0)


def test_the_server_is_asked_for_what_the_form_says(studio: Studio, server: Server) -> None:
    card = studio.make(
        "a blue square on the left",
        "Wide",
        num_inference_steps=3,
        guidance_scale=2.5,
        num_images_per_prompt=2,
        seed=11,
        negative_prompt="text",
    )
    status = server.status(task_of(card))
    assert status["seeds"] == [11, 12]
    wanted = {
        "prompt": "a blue square on the left",
        "negative_prompt": "text",
        "resolution": "1344x768",
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
    }
    assert {name: status["request"][name] for name in wanted} == wanted
    studio.finished("a blue square on the left")
    expect(card.get_by_role("link")).to_have_count(2)


def test_what_is_left_out_is_shown_as_the_variant_has_it(studio: Studio, server: Server) -> None:
    expect(studio.page.get_by_text("usual for Full: 50")).to_be_visible()
    expect(studio.page.get_by_text("usual for Full: 5", exact=True)).to_be_visible()
    card = studio.make("a green circle left alone", num_images_per_prompt="")
    request = server.status(task_of(card))["request"]
    assert (request["num_inference_steps"], request["guidance_scale"]) == (50, 5.0)
    card.get_by_role("button", name="Cancel").click()


def test_ctrl_enter_makes_it_and_the_dice_give_a_seed(studio: Studio, server: Server) -> None:
    studio.fill("a yellow triangle by keyboard", num_inference_steps=2)
    studio.page.get_by_role("button", name="Roll the dice").click()
    seed = studio.page.get_by_label("Seed", exact=True).input_value()
    studio.prompt.press("Control+Enter")
    card = studio.card("a yellow triangle by keyboard")
    expect(card).to_be_visible()
    assert server.status(task_of(card))["seeds"] == [int(seed)]
    studio.finished("a yellow triangle by keyboard")


def test_what_the_server_refuses_is_said_at_the_field(studio: Studio, recorder) -> None:
    recorder.allow("422")
    studio.fill("a red circle with no steps", num_inference_steps=0)
    studio.page.get_by_role("button", name="Make").click()
    steps = studio.page.get_by_label("Steps", exact=True)
    expect(steps).to_have_attribute("aria-invalid", "true")
    expect(steps).to_have_accessible_description(re.compile("1 to 200"))
    expect(
        studio.page.get_by_role("log").get_by_text("Some fields are not right yet.")
    ).to_be_visible()
    expect(studio.card("a red circle with no steps")).to_have_count(0)


def test_a_task_is_cancelled_and_tried_again(studio: Studio, server: Server) -> None:
    card = studio.make("a long mountain landscape", "Square", num_inference_steps=200)
    task_id = task_of(card)
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("cancelled")
    assert server.status(task_id)["status"] == "cancelled"
    card.get_by_role("button", name="Try again").click()
    again = studio.page.get_by_role("article").filter(has=studio.page.get_by_role("progressbar"))
    again = again.filter(has_text="a long mountain landscape")
    expect(again).to_be_visible()
    assert task_of(again) != task_id
    again.get_by_role("button", name="Cancel").click()
    expect(again).to_have_count(0)


def test_a_reload_in_mid_run_loses_nothing(studio: Studio) -> None:
    card = studio.make("a landscape that survives", num_inference_steps=80)
    expect(card).to_contain_text(re.compile(r"step \d+ of 80"), timeout=PICTURE_MS)
    studio.page.reload()
    expect(card).to_contain_text("a landscape that survives")
    expect(studio.prompt).to_have_value("a landscape that survives")
    assert width(studio.finished("a landscape that survives")) == 512


def test_several_run_at_once_and_other_clients_tasks_appear(studio: Studio, server: Server) -> None:
    prompts = ["a red circle of mine", "a blue circle of mine"]
    for prompt in prompts:
        studio.make(prompt, num_inference_steps=20)
    theirs = server.submit(
        prompt="a white circle of theirs", resolution="512x512", num_inference_steps=5
    )
    for prompt in [*prompts, "a white circle of theirs"]:
        studio.finished(prompt)
    assert task_of(studio.card("a white circle of theirs")) == theirs


def code(studio: Studio, form: str) -> str:
    studio.page.get_by_text("The same as code").click()
    studio.page.get_by_role("button", name=form, exact=True).click()
    return studio.page.locator("pre").inner_text()


def test_the_curl_command_does_the_same(studio: Studio, server: Server) -> None:
    studio.fill('the circle that isn\'t "red" $HOME', num_inference_steps=2, seed=7)
    command = code(studio, "curl").replace("curl", "curl -s", 1)
    answer = subprocess.run(["sh", "-c", command], capture_output=True, check=True, text=True)
    status = server.status(json.loads(answer.stdout)["task_id"])
    assert status["request"]["prompt"] == 'the circle that isn\'t "red" $HOME'
    assert status["seeds"] == [7]


def test_the_python_program_fetches_the_picture(studio: Studio, server: Server, tmp_path) -> None:
    studio.fill('a circle \\ by "program" 圆', num_inference_steps=2, seed=7)
    subprocess.run([sys.executable, "-c", code(studio, "Python")], cwd=tmp_path, check=True)
    assert (tmp_path / "picture-0.png").read_bytes().startswith(b"\x89PNG")
    [task] = server.client.get("/tasks?prompt=program").json()["tasks"]
    assert task["request"]["prompt"] == 'a circle \\ by "program" 圆'
