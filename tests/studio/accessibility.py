"""Looks for what keeps people from using a page, with axe-core. Knows no page."""

from collections.abc import Iterator
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_GRAVE = ("serious", "critical")


def check_accessible(page: Page) -> None:
    """Raise if the page, as it is now, has a serious or a critical violation."""
    violations = Axe().run(page).response["violations"]
    grave = [violation for violation in violations if violation["impact"] in _GRAVE]
    assert not grave, "\n".join(line for violation in grave for line in _lines(violation))


def _lines(violation: dict[str, Any]) -> Iterator[str]:
    yield f"{violation['impact']}: {violation['help']} ({violation['id']})"
    for node in violation["nodes"]:
        yield f"  {node['html']}"
        for check in (*node["any"], *node["all"], *node["none"]):
            yield f"    {check['message']}"
