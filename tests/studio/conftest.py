"""A browser, and pages opened in it."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.server import Server
from tests.studio.chromium import chromium_or_skip, headless
from tests.studio.pages import pages
from tests.studio.recorder import Recorder


# Not for the session: no later test could call asyncio.run while it is there.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with headless(chromium_or_skip()) as browser:
        yield browser


@pytest.fixture
def recorder() -> Recorder:
    """What the test's pages do."""
    recorder = Recorder()
    # A picture may be finished before its last preview was fetched.
    recorder.allow("404.*/preview/")
    return recorder


@pytest.fixture
def new_page(
    browser: Browser,
    recorder: Recorder,
    new_server: Callable[..., Server],  # so that pages close first, and miss no server
) -> Iterator[Callable[..., Page]]:
    """Open pages; the test fails if one complains of something the recorder does not allow."""
    with pages(browser, recorder) as new_page:
        yield new_page
