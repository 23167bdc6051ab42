"""How the page looks to all: without sight, without a mouse, on a phone, over a slow line."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.server import Server
from tests.studio.accessibility import check_accessible
from tests.studio.recorder import Recorder
from tests.studio.studio import Studio

DOCS = Path(__file__).parents[2] / "docs"
#: Most that the first view may transfer, in bytes.
FIRST_VIEW = 150_000


#: What the gallery shows, in the order of submission.
PROMPTS = (
    "A blue square on a yellow background",
    "A snowy mountain landscape at night",
    "A green triangle on a white background",
    "雪山与湖泊，日出",
    "A desert landscape at noon",
    "A mountain landscape with a lake at sunset",
)


@pytest.fixture(scope="module")
def picture(server: Server) -> str:
    """Return the id of the latest of some tasks that have pictures."""
    asked = {"resolution": "512x512", "num_inference_steps": 20, "seed": 4}
    made = [server.submit(prompt=prompt, **asked) for prompt in PROMPTS]
    for task_id in made:
        server.pictures(task_id)
    return made[-1]


@pytest.fixture
def views(server: Server, picture: str) -> dict[str, str]:
    """Return the addresses of all views."""
    base = f"{server.url}/studio#"
    return {
        "make": f"{base}/make",
        "gallery": f"{base}/gallery",
        "picture": f"{base}/picture/{picture}/0",
        "service": f"{base}/service",
    }


VIEWS = ("make", "gallery", "picture", "service")
#: What is there once a view is.
_SHOWN = {"make": "article", "gallery": ".wall img", "picture": "dialog img", "service": ".tiles"}


@pytest.fixture
def open_view(
    new_page: Callable[..., Page], views: dict[str, str]
) -> Iterator[Callable[..., Page]]:
    def open_view(view: str, **options) -> Page:
        page = new_page(views[view], **options)
        page.locator(_SHOWN[view]).first.wait_for()
        return page

    return open_view


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_no_view_shuts_anybody_out(open_view, view: str, colours: str) -> None:
    page = open_view(view, color_scheme=colours)
    if view == "make":
        page.get_by_text("The same as code").click()
        page.get_by_text("Other size").click()
    check_accessible(page)


def test_the_question_for_a_key_shuts_nobody_out(new_page, server: Server, recorder) -> None:
    recorder.allow("401")
    page = new_page(f"{server.url}/livez")
    refusal = {"error": {"code": "unauthorized", "message": "A key is needed.", "problems": []}}
    for path in (r"/tasks\?", "/events$", "/limits$"):
        page.route(re.compile(path), lambda route: route.fulfill(status=401, json=refusal))
    page.goto(server.url)
    page.get_by_role("dialog").wait_for()
    check_accessible(page)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(360, 740), (1920, 1080)])
def test_every_view_fits_a_phone_and_a_wide_screen(open_view, view: str, size) -> None:
    page = open_view(view, viewport=size)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_picture_is_made_on_a_phone(new_page, server: Server) -> None:
    page = new_page(server.url, viewport=(360, 740), has_touch=True, is_mobile=True)
    studio = Studio(page)
    studio.make("a red circle on a phone", num_inference_steps=3)
    studio.finished("a red circle on a phone").tap()
    expect(studio.large()).to_contain_text("a red circle on a phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_all_is_reached_with_the_keyboard(open_view) -> None:
    page = open_view("make")
    square = page.get_by_role("radio", name="Square")
    # The shapes are there when the server has said what it takes.
    expect(square).to_be_attached()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(Studio(page).prompt).to_be_focused()
    page.keyboard.press("Tab")
    expect(square).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(square).not_to_be_checked()
    page.get_by_role("article").get_by_role("link").first.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_the_first_view_is_small(new_page, new_server, recorder: Recorder, server: Server) -> None:
    page = new_page(f"{server.url}/livez")
    # Of a server that is new: pictures are as large as people make them.
    empty = {"tasks": [], "next_cursor": None}
    page.route(re.compile(r"/tasks\?"), lambda route: route.fulfill(json=empty))
    page.goto(server.url)
    page.get_by_text("Nothing is being made.").wait_for()
    page.get_by_text("usual for Full: 50").wait_for()
    sizes = {transfer.url: transfer.size_bytes for transfer in recorder.transfers()}
    assert any(url.endswith("/studio/app.js") for url in sizes)
    assert sum(sizes.values()) <= FIRST_VIEW, sizes


#: What is going on in a view when its picture is taken.
_UNDER_WAY = {
    "make": "Boolean(document.querySelector('img.unfinished'))",
    "service": "document.querySelector('polyline')?.points.length > 8",
}
#: Pictures below the fold are fetched when they are scrolled to.
_COMPLETE = """
[...document.images].every((image) => image.getBoundingClientRect().top > innerHeight
    || (image.complete && image.naturalWidth))
"""


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression is true; Playwright's own waiting is not let in by the policy."""
    for _ in range(1200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


@pytest.mark.parametrize("view", VIEWS)
def test_the_documentation_shows_every_view(
    open_view, server: Server, request, view: str, tmp_path: Path
) -> None:
    page = open_view(view)
    if view in _UNDER_WAY:
        asked = {"num_inference_steps": 200, "seed": 5, "num_previews": 3}
        task_id = server.submit(prompt="A red circle on a white background", **asked)
        wait_until(page, _UNDER_WAY[view])
    wait_until(page, _COMPLETE)
    folder = DOCS if request.config.getoption("--screenshots") else tmp_path
    page.screenshot(path=folder / f"studio-{view}.jpg", type="jpeg", quality=80)
    assert (DOCS / f"studio-{view}.jpg").is_file()
    if view in _UNDER_WAY:
        server.client.delete(f"/tasks/{task_id}")
