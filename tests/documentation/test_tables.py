"""The READMEs and the pages of reference say what the code does: options, routes, fields, codes."""

import re
from pathlib import Path

import pytest

from hidream_server.api import (
    events,
    groups,
    health,
    images,
    listing,
    metrics,
    offer,
    studio,
    tasks,
)
from hidream_server.api.limits import Limits
from hidream_server.api.openai import batches, files, models
from hidream_server.api.openai import images as openai_images
from hidream_server.api.schemas import GenerationRequest
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.devices import npu
from hidream_server.model_directory.reading import describe
from hidream_server.settings import Settings, options
from tests.documentation.blocks import ROOT
from tests.documentation.tables import codes_of_the_api, rows

DOCS = ROOT / "docs"
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
ROUTES = [DOCS / "routes.md", DOCS / "routes.zh-CN.md"]
NPU = [DOCS / "npu.md", DOCS / "npu.zh-CN.md"]
ROUTERS = (
    *(events, groups, health, images, listing, metrics, offer, studio, tasks),
    *(batches, files, models, openai_images),
)


def pages(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", paths, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def documented_options(page: Path) -> dict[str, list[str]]:
    """Return the rest of each row about an option, by its flags."""
    return {row[0]: row[1:] for row in rows(text_of(page)) if row[0].startswith("`-")}


def declared_options() -> dict[str, list[str]]:
    """Return environment, default and help of every option, by its flags."""
    return {
        quoted(option.flags): [
            quoted(option.env),
            "" if option.default is None else f"`{option.default}`",
            option.help,
        ]
        for option in options()
    }


def test_the_options_of_the_readme_are_the_code() -> None:
    documented = documented_options(READMES[0])
    assert 10 <= len(documented) <= 15
    assert documented.items() <= declared_options().items()


def test_all_options_are_there_in_chinese() -> None:
    documented = documented_options(DOCS / "settings.zh-CN.md")
    assert {flags: row[:2] for flags, row in documented.items()} == {
        flags: row[:2] for flags, row in declared_options().items()
    }


def test_the_readmes_have_the_same_options_and_the_meanings_of_the_whole_table() -> None:
    english, chinese = map(documented_options, READMES)
    assert list(chinese) == list(english)
    assert chinese.items() <= documented_options(DOCS / "settings.zh-CN.md").items()


def routes_in(page: Path) -> list[str]:
    return [
        route.strip("`")
        for row in rows(text_of(page))
        if re.match(r"`(GET|POST|DELETE) ", row[0])
        for route in row[0].split(", ")
    ]


def declared_routes() -> set[str]:
    return {
        f"{method} {route.path_format}"
        for module in ROUTERS
        for route in module.router.routes
        for method in route.methods
    }


@pages(ROUTES)
def test_the_routes_are_the_code(page: Path) -> None:
    assert set(routes_in(page)) == declared_routes()


def test_the_readmes_have_the_same_routes_of_those_that_there_are() -> None:
    english, chinese = map(routes_in, READMES)
    assert chinese == english
    assert set(english) <= declared_routes()


@pages(ROUTES)
def test_all_fields_are_there(page: Path) -> None:
    fields = {row[0].strip("`") for row in rows(text_of(page))}
    assert set(GenerationRequest.model_fields) <= fields


@pages([*READMES, *ROUTES])
def test_the_ranges_of_fields_are_the_code(page: Path) -> None:
    table = {row[0].strip("`"): row for row in rows(text_of(page))}
    limits = Limits(Settings(), describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH))
    documented = limits.ranges.keys() & table.keys()
    assert {"num_inference_steps", "seed"} <= documented
    for name in documented:
        numbers = re.findall(r"\d+", table[name][2])
        limit = limits.ranges[name]
        assert [f"{limit.low:g}", f"{limit.high:.16g}"] == numbers[:2], name


@pages(ROUTES)
def test_the_codes_of_errors_are_the_code(page: Path) -> None:
    documented = {
        (row[0], code)
        for row in rows(text_of(page))
        if re.fullmatch(r"\d{3}", row[0])
        for code in re.findall(r"`(\w+)`", row[1])
    }
    assert documented == set(codes_of_the_api())


@pages(NPU)
def test_the_variables_of_npus_are_the_code(page: Path) -> None:
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(text_of(page))}
    assert npu._DEFAULTS.items() <= table.items()
    [useless] = [line for line in text_of(page).splitlines() if "`HCCL_TIMEOUT`" in line]
    assert set(re.findall("`(HCCL_[A-Z_]+)`", useless)) == set(npu._WITHOUT_EFFECT)


@pages(READMES)
def test_every_folder_of_the_tree_exists(page: Path) -> None:
    tree = re.search(r"```text\nscripts/.*?```", text_of(page), re.DOTALL)
    assert tree is not None
    package = ROOT / "src" / "hidream_server"
    named = re.findall(r"^( *)([\w.]+/)", tree[0], re.MULTILINE)
    for indent, folder in named:
        assert ((package if indent else ROOT) / folder).is_dir(), folder
    folders = {path.name + "/" for path in package.iterdir() if path.is_dir()} - {"__pycache__/"}
    assert folders == {folder for indent, folder in named if indent}
