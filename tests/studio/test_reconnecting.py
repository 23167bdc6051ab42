"""The server goes away and comes back: the page says so, and comes back by itself."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.e2e.server import Server
from tests.studio.studio import PICTURE_MS, Studio, width


def test_a_killed_server_costs_the_page_nothing(
    new_page: Callable[..., Page], new_server: Callable[..., Server], recorder
) -> None:
    # Whatever a browser says of connections that fail.
    recorder.allow("ERR_|Failed to (load|fetch)|status of 50")
    server = new_server("--max-running", "1", "--checkpoint-s", "0.5")
    server.start()
    server.wait_for("/readyz")
    studio = Studio(new_page(server.url))
    running = studio.make("a landscape in mid-run", num_inference_steps=100)
    expect(running).to_contain_text(re.compile(r"step \d+ of 100"), timeout=PICTURE_MS)
    waiting = studio.make("a circle that waits", num_inference_steps=5)
    expect(waiting).to_contain_text("next in the queue")
    expect(waiting).to_contain_text("left")
    server.kill()
    expect(studio.page.get_by_text("The server does not answer.")).to_be_visible(timeout=PICTURE_MS)
    expect(running).to_be_visible()
    server.start()
    expect(studio.page.get_by_text("Connected again.")).to_be_visible(timeout=PICTURE_MS)
    expect(studio.page.get_by_text("The server does not answer.")).to_have_count(0)
    expect(running).to_contain_text("attempt 2", timeout=PICTURE_MS)
    for prompt in ("a landscape in mid-run", "a circle that waits"):
        assert width(studio.finished(prompt)) == 512


def test_what_happened_while_the_page_was_away_is_told(
    new_page: Callable[..., Page], server: Server, recorder
) -> None:
    recorder.allow("ERR_INTERNET_DISCONNECTED")
    studio = Studio(new_page(server.url))
    card = studio.make("a circle unseen", num_inference_steps=20)
    task_id = card.get_attribute("data-task")
    studio.page.context.set_offline(True)
    expect(studio.page.get_by_text("The server does not answer.")).to_be_visible(timeout=PICTURE_MS)
    server.wait_status(task_id, "completed")
    studio.page.context.set_offline(False)
    expect(studio.page.get_by_text("Meanwhile 1 task completed and 0 failed.")).to_be_visible()
    assert width(studio.finished("a circle unseen")) == 512
