"""Keep what was made: the gallery, the large view, and settings that come back out of a file."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.server import Server
from tests.studio.studio import Studio, task_of, width

QUICK = {"resolution": "512x512", "num_inference_steps": 2}
#: A PNG that ends in the middle of a text.
CUT_OFF = b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffiTXtshort"


@pytest.fixture(scope="module")
def kept(server: Server) -> list[str]:
    """Return the ids of three tasks of another client; the last has two pictures."""
    made = [
        server.submit(prompt=prompt, seed=seed, **QUICK, **more)
        for prompt, seed, more in [
            ("a kept red circle", 21, {"negative_prompt": "text", "guidance_scale": 3.5}),
            ("a kept blue square", 22, {}),
            ("two kept green circles", 23, {"num_images_per_prompt": 2}),
        ]
    ]
    for task_id in made:
        server.pictures(task_id)
    return made


@pytest.fixture
def studio(new_page: Callable[..., Page], server: Server, kept: list[str]) -> Studio:
    """The gallery, with the pictures of `kept` only."""
    studio = Studio(new_page(f"{server.url}/studio#/gallery"))
    studio.search("kept")
    expect(studio.tiles()).to_have_count(4)
    return studio


def test_the_gallery_has_what_others_made_and_finds_it_by_words(studio: Studio) -> None:
    assert width(studio.tiles().first.get_by_role("img")) == 512
    studio.search("KEPT BLUE")
    expect(studio.tiles()).to_have_count(1)
    studio.search("no such words")
    expect(studio.page.get_by_text("No prompt has this text in it.")).to_be_visible()
    studio.search("")
    expect(studio.tiles().nth(3)).to_be_visible()


def test_what_is_finished_meanwhile_comes_by_itself(studio: Studio, server: Server) -> None:
    studio.search("comes by itself")
    expect(studio.tiles()).to_have_count(0)
    task_id = server.submit(prompt="this comes by itself", **QUICK)
    server.pictures(task_id)
    expect(studio.tiles()).to_have_count(1)
    server.client.delete(f"/tasks/{task_id}")
    expect(studio.tiles()).to_have_count(0)


def test_arrow_keys_lead_through_the_pictures_and_escape_back(studio: Studio) -> None:
    studio.tiles().first.click()
    expect(studio.large()).to_contain_text("two kept green circles")
    expect(studio.large()).to_contain_text("23")
    studio.page.keyboard.press("ArrowRight")
    expect(studio.large()).to_contain_text("24")
    studio.page.keyboard.press("ArrowRight")
    expect(studio.large()).to_contain_text("a kept blue square")
    studio.page.keyboard.press("ArrowLeft")
    expect(studio.large()).to_contain_text("two kept green circles")
    assert width(studio.large().get_by_role("img")) == 512
    studio.page.keyboard.press("Escape")
    expect(studio.large()).to_have_count(0)
    expect(studio.tiles()).to_have_count(4)


def test_a_picture_is_opened_by_its_address(new_page, server: Server, kept: list[str]) -> None:
    studio = Studio(new_page(f"{server.url}/studio#/picture/{kept[1]}/0"))
    expect(studio.large()).to_contain_text("a kept blue square")


def test_an_address_of_nothing_says_so(new_page, server: Server, recorder) -> None:
    recorder.allow("404")
    studio = Studio(new_page(f"{server.url}/studio#/picture/nothing/0"))
    expect(studio.large()).to_contain_text("not here any more")


def test_the_file_that_is_kept_is_the_servers_and_gives_its_settings_back(
    studio: Studio, server: Server, kept: list[str], tmp_path: Path
) -> None:
    studio.search("kept red")
    expect(studio.tiles()).to_have_count(1)
    studio.tiles().first.click()
    with studio.page.expect_download() as download:
        studio.large().get_by_role("link", name="Download").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.suffix == ".png"
    assert [file.read_bytes()] == server.pictures(kept[0])
    studio.page.keyboard.press("Escape")
    studio.page.get_by_label("Load settings from a PNG").set_input_files(file)
    has_settings(
        studio.page,
        prompt="a kept red circle",
        seed="21",
        guidance_scale="3.5",
        negative_prompt="text",
    )


def test_a_file_is_dropped_anywhere_on_the_page(
    studio: Studio, server: Server, kept: list[str]
) -> None:
    studio.view("Service")
    [data] = server.pictures(kept[1])
    drop(studio.page, data)
    has_settings(studio.page, prompt="a kept blue square", seed="22", num_inference_steps="2")


@pytest.mark.parametrize("data", [b"", b"no picture", CUT_OFF])
def test_a_file_from_elsewhere_is_refused_in_words(studio: Studio, data: bytes) -> None:
    drop(studio.page, data)
    expect(studio.page.get_by_text("This file does not say how it was made")).to_be_visible()
    expect(studio.tiles()).to_have_count(4)


def test_settings_are_used_again(studio: Studio) -> None:
    studio.tiles().nth(1).click()
    studio.large().get_by_role("button", name="Use these settings").click()
    has_settings(studio.page, prompt="two kept green circles", seed="24", num_images_per_prompt="1")


def test_the_same_is_made_with_another_seed(
    studio: Studio, server: Server, kept: list[str]
) -> None:
    studio.tiles().nth(2).click()
    studio.large().get_by_role("button", name="another seed").click()
    expect(studio.page.get_by_role("article").filter(has_text="a kept blue square")).to_have_count(
        2
    )
    card = studio.card("a kept blue square")
    again, before = server.status(task_of(card)), server.status(kept[1])
    assert again["seeds"] != before["seeds"]
    same = ("prompt", "resolution", "num_inference_steps", "guidance_scale")
    assert [again["request"][name] for name in same] == [before["request"][name] for name in same]
    server.client.delete(f"/tasks/{again['task_id']}")


def test_a_picture_is_deleted_at_the_second_click(new_page, server: Server, recorder) -> None:
    recorder.allow("404")
    task_id = server.submit(prompt="a circle to be deleted", **QUICK)
    server.pictures(task_id)
    studio = Studio(new_page(f"{server.url}/studio#/gallery"))
    studio.search("to be deleted")
    studio.tiles().first.click()
    studio.large().get_by_role("button", name="Delete").click()
    assert server.client.get(f"/status/{task_id}").status_code == 200
    studio.large().get_by_role("button", name="Really delete?").click()
    expect(studio.tiles()).to_have_count(0)
    expect(studio.large()).to_have_count(0)
    assert server.client.get(f"/status/{task_id}").status_code == 404


def has_settings(page: Page, **fields: str) -> None:
    """Wait until the form has these settings."""
    for name, value in fields.items():
        expect(page.locator(f"#{name}")).to_have_value(value)


def drop(page: Page, data: bytes) -> None:
    """Drop a file onto the page."""
    files = page.evaluate_handle(
        """(data) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            return transfer;
        }""",
        base64.b64encode(data).decode(),
    )
    for event in ("dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": files})
