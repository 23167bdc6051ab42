"""Opens pages, each for a visitor who has never been there. Knows no page."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

from tests.studio.chromium import PATIENCE_MS
from tests.studio.recorder import Recorder


@contextmanager
def pages(browser: Browser, recorder: Recorder) -> Iterator[Callable[..., Page]]:
    """Open pages while inside; at the end raise if one of them complained."""
    with ExitStack() as contexts:

        def new_page(
            url: str,
            *,
            locale: str = "en-US",
            color_scheme: Literal["light", "dark"] = "light",
            viewport: tuple[int, int] = (1280, 800),
            **options: Any,
        ) -> Page:
            """Open a URL in a context of its own, made with these options of Playwright's."""
            context = browser.new_context(
                locale=locale,
                color_scheme=color_scheme,
                viewport={"width": viewport[0], "height": viewport[1]},
                service_workers="block",
                **options,
            )
            contexts.enter_context(context)
            context.set_default_timeout(PATIENCE_MS)
            recorder.watch(context, urlsplit(url).netloc)
            page = context.new_page()
            page.goto(url)
            return page

        yield new_page
    # Not earlier: what the browser had still to say comes while contexts close.
    recorder.check()
