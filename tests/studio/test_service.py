"""See the service, and the page in other languages, colours and sizes; who asks for a key."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.server import Server
from tests.studio.studio import Studio, width


def test_the_service_says_what_it_serves_and_how_it_is(new_page, server: Server) -> None:
    studio = Studio(new_page(f"{server.url}/studio#/service"))
    service = studio.page.get_by_label("Service", exact=True)
    health = server.client.get("/health").json()
    for text in ("healthy", f"{health['model']['name']} (Full)", "tp1", "cpu 0", "1 of 1 ready"):
        expect(service).to_contain_text(text)
    expect(studio.page.get_by_role("heading", level=1)).to_contain_text("Demo")
    expect(studio.page.get_by_role("status").get_by_text("Demo model")).to_be_visible()


def test_the_chart_draws_the_time_of_steps_as_they_are_done(new_page, server: Server) -> None:
    studio = Studio(new_page(f"{server.url}/studio#/service"))
    expect(studio.page.get_by_text("No step was seen since this page was opened.")).to_be_visible()
    server.submit(prompt="a chart of steps", resolution="512x512", num_inference_steps=200)
    chart = studio.page.get_by_role("img", name="Seconds for each step")
    expect(chart).to_be_visible(timeout=60_000)
    points = chart.locator("polyline").get_attribute("points") or ""
    assert len(points.split()) >= 2


def test_a_degraded_service_says_why(new_page, server: Server) -> None:
    page = new_page(f"{server.url}/docs")
    worse = server.client.get("/health").json() | {
        "status": "degraded",
        "reason": "rank 1 left",
        "layout": "tp1",
        "wanted_layout": "tp2",
    }
    page.route("**/health", lambda route: route.fulfill(json=worse))
    page.goto(f"{server.url}/studio#/service")
    expect(page.get_by_role("status").get_by_text("rank 1 left")).to_be_visible()
    expect(page.get_by_label("Service", exact=True)).to_contain_text("wanted: tp2")


def test_several_groups_are_shown_with_their_machines(new_page, server: Server) -> None:
    page = new_page(f"{server.url}/docs")
    [here] = server.client.get("/groups").json()["groups"]
    there = here | {"id": "there#0", "machine": "a-second-machine", "layout": "tp1"}
    there |= {"wanted_layout": "tp4", "status": "degraded", "reason": "rank 1 left"}
    page.route("**/groups", lambda route: route.fulfill(json={"groups": [here, there]}))
    page.goto(f"{server.url}/studio#/service")
    rows = page.get_by_role("table", name="Worker groups").get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text(here["machine"])
    for text in ("a-second-machine", "wanted: tp4", "degraded", "rank 1 left"):
        expect(rows.nth(2)).to_contain_text(text)


def test_a_chinese_browser_gets_chinese_and_the_choice_is_kept(new_page, server: Server) -> None:
    page = new_page(server.url, locale="zh-CN")
    expect(page.get_by_role("button", name="生成图片")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("button", name="Make the picture")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Make the picture")).to_be_visible()


def background(page: Page) -> int:
    """Return how bright the page is, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(colour.removeprefix("rgb(").split(",")[0])


def test_colours_follow_the_system_until_others_are_chosen(new_page, server: Server) -> None:
    page = new_page(server.url, color_scheme="dark")
    assert background(page) < 64
    page.get_by_role("button", name="Colours").click()
    assert background(page) > 192
    page.reload()
    expect(page.get_by_role("button", name="Colours: light")).to_be_visible()
    assert background(page) > 192


@pytest.fixture
def locked(new_server: Callable[..., Server]) -> tuple[Server, str]:
    """Return a server that has a key, and the key."""
    server = new_server()
    server.start()
    server.wait_for("/readyz")
    return server, new_key(server)


def new_key(server: Server) -> str:
    command = [sys.executable, "-m", "hidream_server", "keys", "create", "somebody"]
    made = subprocess.run(command, cwd=server.folder, capture_output=True, check=True, text=True)
    return next(word for word in made.stdout.split() if word.startswith("hd_"))


def test_a_key_is_asked_for_and_kept_in_the_tab_only(new_page, recorder, locked) -> None:
    recorder.allow("401")
    server, key = locked
    studio = Studio(new_page(server.url))
    asked = studio.page.get_by_role("dialog")
    expect(asked).to_be_visible()
    studio.page.keyboard.press("Escape")
    expect(asked).to_be_visible()
    asked.get_by_label("API key").fill("hd_00000000_" + "A" * 43)
    asked.get_by_role("button", name="Use this key").click()
    expect(asked.get_by_role("alert")).to_contain_text("not known here")
    asked.get_by_label("API key").fill(key)
    asked.get_by_role("button", name="Use this key").click()
    expect(asked).to_have_count(0)
    studio.make("a red circle behind a key", num_inference_steps=12)
    assert width(studio.finished("a red circle behind a key")) == 512
    studio.page.reload()
    assert width(studio.finished("a red circle behind a key")) == 512
    assert key not in studio.page.evaluate("JSON.stringify(localStorage)")
    assert all(key not in url for url in recorder.requests)
    studio.page.get_by_role("button", name="Forget the key").click()
    expect(asked).to_be_visible()
    assert key not in studio.page.evaluate("JSON.stringify(sessionStorage)")


def test_one_key_does_not_see_what_another_made(new_page, recorder, locked) -> None:
    recorder.allow("401")
    server, key = locked
    other = {"Authorization": f"Bearer {new_key(server)}"}
    task = {"prompt": "a circle of another", "resolution": "512x512", "num_inference_steps": 2}
    assert server.client.post("/submit", json=task, headers=other).is_success
    studio = Studio(new_page(server.url))
    studio.give_key(key)
    studio.make("a circle of mine alone", num_inference_steps=2)
    studio.finished("a circle of mine alone")
    expect(studio.card("a circle of another")).to_have_count(0)
