"""The server goes away and comes back: the page says so, and comes back by itself."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.e2e.server import Server
from tests.studio.studio import PICTURE_MS, Studio, task_of, width


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


def test_a_list_that_fails_once_is_asked_for_again(new_page, server: Server, recorder) -> None:
    recorder.allow("503")
    refused = iter([True])
    page = new_page(f"{server.url}/livez")
    page.route(
        re.compile(r"/tasks\?limit"),
        lambda route: route.fulfill(status=503) if next(refused, False) else route.continue_(),
    )
    page.goto(server.url)
    studio = Studio(page)
    studio.make("a circle after a refusal", num_inference_steps=2)
    studio.finished("a circle after a refusal")
    expect(page.get_by_text("The server does not answer.")).to_have_count(0)


def test_an_answer_that_comes_late_does_not_undo_an_end(new_page, server: Server) -> None:
    studio = Studio(new_page(server.url))
    card = studio.make("a circle that ended", num_inference_steps=60)
    expect(card).to_contain_text(re.compile(r"step \d+ of 60"), timeout=PICTURE_MS)
    late = {**server.status(task_of(card)), "status": "processing", "result_urls": []}
    studio.finished("a circle that ended")
    asked = re.compile(r"/tasks\?status=processing")
    answer = {"tasks": [late], "next_cursor": None}
    studio.page.route(asked, lambda route: route.fulfill(json=answer))
    with studio.page.expect_response(asked):
        other = studio.make("a long circle beside it", num_inference_steps=200)
    # Another answer comes only when the first was taken over.
    with studio.page.expect_response(asked):
        pass
    expect(card).to_contain_text("completed")
    other.get_by_role("button", name="Cancel").click()


def test_of_many_tasks_those_that_run_or_are_next_are_shown(new_page, server: Server) -> None:
    task_id = server.submit(prompt="one of many", resolution="512x512", num_inference_steps=2)
    server.pictures(task_id)
    status = server.status(task_id) | {"result_urls": []}
    queued = [
        status | {"task_id": f"queued {place}", "status": "queued", "queue_position": place}
        for place in range(40)
    ]
    running = status | {"task_id": "running", "status": "processing", "created_at": "2020-01-01"}
    page = new_page(f"{server.url}/livez")
    answer = {"tasks": [*reversed(queued), running], "next_cursor": None}
    page.route(re.compile(r"/tasks\?"), lambda route: route.fulfill(json=answer))
    page.goto(server.url)
    expect(page.get_by_text("11 more tasks in the queue")).to_be_visible()
    cards = page.get_by_role("article")
    expect(cards).to_have_count(30)
    shown = [task_of(card) for card in cards.all()]
    assert shown == ["running", *(f"queued {place}" for place in range(29))]
