"""Finds the machine's own Chromium and starts it without a screen. Knows nothing of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

#: A page on a busy machine may take so long for anything at all, in milliseconds.
PATIENCE_MS = 60_000
NAMES = ("chromium", "chromium-browser", "google-chrome")
_MISSING = (
    f"none of {', '.join(NAMES)} is on the PATH: install Chromium and a Chinese font, on Debian "
    "with `apt-get install chromium fonts-wqy-microhei`"
)

#: Besides Playwright's own, which let it run as root with an empty profile, without first-run
#: pages, synchronisation, and updates in the background.
_FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    # Nothing that a page asks of another host leaves the machine.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def chromium_or_skip() -> str:
    """Return the path of a Chromium; without one skip the test, or fail it where CI is set."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail(_MISSING, pytrace=False)
    pytest.skip(_MISSING)


@contextmanager
def headless(executable: str) -> Iterator[Browser]:
    """Run a browser while inside.

    So long an event loop counts as running in this thread, and `asyncio.run` raises.
    """
    expect.set_options(timeout=PATIENCE_MS)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable, args=_FLAGS) as browser,
    ):
        yield browser
