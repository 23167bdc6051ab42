"""Every code block of every page does what it says, from top to bottom, on a real server."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.documentation.blocks import (
    NEEDS,
    PAGES,
    SHOWN,
    Block,
    Reader,
    blocks,
    environment,
    furnish,
)
from tests.e2e.server import Server

#: Without what would end more than the prompt.
PROMPT = re.compile(r"""(?<="prompt": ")[^"'\\]+(?=")|(?<=generate ")[^"]+(?=")""")
TRANSLATED = [page for page in PAGES if page.name.endswith(".zh-CN.md")]
EVERY = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def page_server(page: Path, server: Server, new_server: Callable[..., Server]) -> Server:
    """The server that all share; its own for a page that makes keys, which shut others out."""
    if not any("hidream keys create" in block.text for block in blocks(page)):
        return server
    own = new_server()
    own.start()
    own.wait_for("/readyz")
    return own


def test_the_blocks_of_a_page_run_from_top_to_bottom(
    page: Path, page_server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    furnish(folder)
    around = environment(folder, page_server.url, page_server.folder / "var")
    reader = Reader(folder, f"127.0.0.1:{page_server.port}", around)
    for block in blocks(page):
        if block.language not in SHOWN:
            reader.read(block)
    for file in (path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".webp")):
        size = re.search(r"\d+x\d+", file.stem)
        with Image.open(file) as image:
            image.load()
            assert size is None or size[0] == f"{image.width}x{image.height}"


@pytest.mark.parametrize("block", EVERY, ids=lambda block: block.place)
def test_a_block_says_its_language_and_what_it_needs(block: Block) -> None:
    assert block.language in SHOWN or hasattr(Reader, f"_{block.language}")
    assert block.needs is None or block.needs in NEEDS


def test_nothing_is_said_to_be_needed_that_no_block_needs() -> None:
    assert {block.needs for block in EVERY} - {None} == NEEDS


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_both_languages_have_the_same_blocks_but_for_prompts(page: Path) -> None:
    original = page.with_name(page.name.replace(".zh-CN", ""))
    chinese, english = (
        [
            (block.language, PROMPT.sub("…", block.text))
            for block in blocks(each)
            if block.language not in SHOWN
        ]
        for each in (page, original)
    )
    assert chinese == english
