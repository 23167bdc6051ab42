"""The page on the demo model names what its sheets show."""

from pathlib import Path

import pytest

from training.sheet import SHEETS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", SHEETS)
def test_the_page_names_every_prompt_of_a_sheet(name):
    page = " ".join((DOCS / "demo-model.md").read_text("utf-8").split())
    assert f"({name}.jpg)" in page
    assert (DOCS / f"{name}.jpg").exists()
    for prompt, _ in SHEETS[name][1]:
        assert prompt in page
