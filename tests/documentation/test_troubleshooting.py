"""Troubleshooting knows every error, and quotes what the server really says."""

import ast
import re
from collections.abc import Iterator

import pytest

from hidream_server.errors import ConfigurationError, HiDreamError
from tests.documentation.blocks import ROOT
from tests.documentation.tables import codes_of_the_api, rows

DOCS = ROOT / "docs"
PAGES = [DOCS / "troubleshooting.md", DOCS / "troubleshooting.zh-CN.md"]
#: Tables of what the server says, by the number of their section and of the column with it.
SAID = {2: 1, 3: 0, 4: 0}


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def sections(request: pytest.FixtureRequest) -> list[str]:
    return request.param.read_text(encoding="utf-8").split("\n## ")


def family(cls: type[HiDreamError]) -> Iterator[type[HiDreamError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from family(sub)


def name_of(cls: type[HiDreamError]) -> str:
    """Return a class's code, without making one."""
    return str(HiDreamError.code.fget(cls.__new__(cls)))  # type: ignore[attr-defined]


def test_every_error_of_a_start_is_there(sections: list[str]) -> None:
    ours = {cls for cls in family(ConfigurationError) if cls.__module__ == "hidream_server.errors"}
    documented = {row[0].strip("`") for row in rows(sections[2]) if row[0].startswith("`")}
    assert documented == {name_of(cls) for cls in ours}


def test_every_code_of_the_api_is_there_with_its_status(sections: list[str]) -> None:
    documented = {
        (row[1], code) for row in rows(sections[5]) for code in re.findall(r"`(\w+)`", row[0])
    }
    assert documented == set(codes_of_the_api())


def test_what_is_quoted_is_what_the_code_says(sections: list[str]) -> None:
    sentences = set(said_by_the_code())
    for number, column in SAID.items():
        quoted = [
            text
            for row in rows(sections[number])
            for text in re.findall("`([^`]{9,})`", row[column])
        ]
        assert quoted
        for text in quoted:
            if text not in ("out of memory",):
                assert any(text in sentence for sentence in sentences), text


def said_by_the_code() -> Iterator[str]:
    """Yield every text of the source, with … for what is put into it."""
    for file in (ROOT / "src" / "hidream_server").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[.0-9]*[sdfg]", "…", node.value)
