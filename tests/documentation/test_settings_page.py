"""docs/settings.md is made from the settings, and up to date."""

import runpy

from hidream_server.settings import options
from tests.documentation.blocks import ROOT

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "settings_page.py"))


def test_the_page_is_what_the_script_prints() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == SCRIPT["page"](), "run scripts/settings_page.py >docs/settings.md"


def test_every_section_begins_at_an_option_there_is() -> None:
    names = [option.name for option in options()]
    begins = [names.index(name) for name in SCRIPT["SECTIONS"]]
    assert begins == sorted(begins)
    assert begins[0] == 0


def test_what_is_allowed_is_said_of_each_kind_of_value() -> None:
    page = SCRIPT["page"]()
    for row in (
        "| `--port` | `HIDREAM_PORT` | `8088` | 1 to 65535 |",
        "| `--max-rows` | `HIDREAM_MAX_ROWS` | `8` | 1 to 8 |",
        "| `--step-timeout-s` | `HIDREAM_STEP_TIMEOUT_S` | `600.0` | above 0 |",
        "| `--max-previews` | `HIDREAM_MAX_PREVIEWS` | `3` | 0 or more |",
        "| `--log-format` | `HIDREAM_LOG_FORMAT` | `text` | `text`, `json` |",
        "| `--data-dir` | `HIDREAM_DATA_DIR` | `var` | a path |",
        "| `--layout` | `HIDREAM_LAYOUT` |  | see the meaning |",
    ):
        assert row in page
