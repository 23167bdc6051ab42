"""The site builds without a warning, and what it is made of is all its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.documentation.blocks import ROOT

#: What a browser loads by itself, by element; where links lead is its reader's choice.
LOADING = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("source", "srcset"),
    ("iframe", "src"),
    ("object", "data"),
}
ELSEWHERE = re.compile(r"(https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as strictly as it can be: a link or an anchor that leads nowhere fails."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """Collects what a page makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if (tag, name) in LOADING]


def test_every_page_is_in_the_navigation_and_in_the_site(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / "docs" / page.with_suffix(".html").name).is_file()
        assert f"docs/{page.name}" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), page


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loaded = list(everything_loaded(site))
    assert len(loaded) > 100
    assert [name for _, name in loaded if ELSEWHERE.match(name)] == []


def test_what_is_loaded_is_there(site: Path) -> None:
    for page, name in everything_loaded(site):
        if page.name != "404.html":
            assert (page.parent / name.partition("?")[0]).is_file(), f"{page}: {name}"


def test_no_style_loads_anything_from_another_host(site: Path) -> None:
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        urls = re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", style.read_text())
        assert [url for found in urls for url in found if ELSEWHERE.match(url)] == []


def everything_loaded(site: Path) -> Iterator[tuple[Path, str]]:
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        yield from ((page, name) for name in loads.found)
