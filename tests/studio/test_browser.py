"""The tests' own tools notice what they are for, on pages made for it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, Page
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from hidream_server.settings import Settings
from tests.e2e.server import Server
from tests.http_server import http_server
from tests.studio.accessibility import check_accessible
from tests.studio.chromium import chromium_or_skip
from tests.studio.pages import pages
from tests.studio.recorder import Recorder

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; connect-src *; img-src 'self' data:"
_HEAD = "<!doctype html><html lang='en'><title>A page</title><link rel='icon' href='data:,'>"


@contextmanager
def site(body: str) -> Iterator[str]:
    """Serve a page with this body while inside; the value is its URL."""
    answer = HTMLResponse(
        f"{_HEAD}<main><h1>A page</h1>{body}</main>", headers={"Content-Security-Policy": _POLICY}
    )
    app = Starlette(routes=[Route("/", lambda _: answer)])
    with http_server(app, Settings()) as port:
        yield f"http://127.0.0.1:{port}/"


def test_a_page_of_a_real_server_opens(
    new_page: Callable[..., Page], recorder: Recorder, server: Server
) -> None:
    page = new_page(f"{server.url}/docs")
    page.get_by_text("/submit", exact=True).wait_for()
    assert f"{server.url}/openapi.json" in recorder.requests


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("console.error('boom')", "console error: boom"),
        ("throw new Error('boom')", "page error: boom"),
        ("Promise.reject(new Error('boom'))", "page error: boom"),
        ("eval('1')", "CSP violation: script-src blocked eval"),
        ("document.write('<img src=/missing alt=>')", "status of 404"),
        ("fetch('http://elsewhere.test/')", "request to another host: http://elsewhere.test/"),
    ],
)
def test_what_no_page_should_do_fails_its_test(
    browser: Browser, script: str, complaint: str
) -> None:
    with (
        site(f"<script>{script}</script>") as url,
        pytest.raises(AssertionError, match=re.escape(complaint)),
        pages(browser, Recorder()) as new_page,
    ):
        new_page(url)


def test_a_complaint_of_the_last_moment_is_not_lost(browser: Browser) -> None:
    with (
        site("") as url,
        pytest.raises(AssertionError, match="console error: boom"),
        pages(browser, Recorder()) as new_page,
    ):
        new_page(url).evaluate("console.error('boom')")


def test_a_crash_is_a_complaint(new_page: Callable[..., Page], recorder: Recorder) -> None:
    recorder.allow("^crash of ")
    with site("") as url:
        page = new_page(url)
        with page.expect_event("crash"), pytest.raises(Error, match="crash"):
            page.goto("chrome://crash")
    assert recorder.complaints == [f"crash of {url}"]


def test_what_is_allowed_does_not_fail_a_test_and_the_rest_does() -> None:
    recorder = Recorder()
    recorder.allow("ERR_.*REFUSED")
    recorder.complaints += ["console error: net::ERR_CONNECTION_REFUSED"]
    recorder.check()
    recorder.complaints += ["console error: boom"]
    with pytest.raises(AssertionError, match=r"^a page complained:\nconsole error: boom$"):
        recorder.check()


def test_a_page_may_outlive_its_server(new_page: Callable[..., Page], recorder: Recorder) -> None:
    recorder.allow("ERR_CONNECTION_REFUSED")
    with site("") as url:
        page = new_page(url)
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate("fetch('/')")
    assert "ERR_CONNECTION_REFUSED" in recorder.complaints[0]


def test_what_a_page_transfers_is_measured(
    new_page: Callable[..., Page], recorder: Recorder
) -> None:
    with site("x" * 100_000) as url:
        new_page(url)
        (transfer,) = [each for each in recorder.transfers() if each.url == url]
    assert transfer.host == url.split("/")[2]
    assert 100_000 < transfer.size_bytes < 102_000


def test_a_visitor_s_language_colours_and_screen_are_chosen(
    new_page: Callable[..., Page],
) -> None:
    with site("") as url:
        page = new_page(url, locale="zh-CN", color_scheme="dark", viewport=(390, 844))
    assert page.evaluate("navigator.language") == "zh-CN"
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page.evaluate("[innerWidth, innerHeight]") == [390, 844]


def test_a_new_visitor_finds_nothing_of_another(new_page: Callable[..., Page]) -> None:
    with site("") as url:
        new_page(url).evaluate("localStorage.setItem('mine', 'yes')")
        assert new_page(url).evaluate("localStorage.getItem('mine')") is None


def test_a_page_that_all_can_use_passes(new_page: Callable[..., Page]) -> None:
    with site("<button>Make it</button>") as url:
        check_accessible(new_page(url))


def test_a_button_without_a_name_is_found(new_page: Callable[..., Page]) -> None:
    with site("<button id='planted'></button>") as url:
        page = new_page(url)
    with pytest.raises(AssertionError) as raised:
        check_accessible(page)
    assert "critical: Buttons must have discernible text (button-name)" in str(raised.value)
    assert '<button id="planted"></button>' in str(raised.value)


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip), ("1", pytest.fail)])
def test_without_chromium_a_test_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: Callable[..., object]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome.Exception, match="apt-get install chromium"):
        chromium_or_skip()
