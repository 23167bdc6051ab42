"""The READMEs say what the code does: options, routes, fields, limits, error codes."""

import inspect
import re
from pathlib import Path

import pytest

from hidream_server.api import events, health, images, listing, metrics, offer, studio, tasks
from hidream_server.api.errors import status_of
from hidream_server.api.limits import Limits
from hidream_server.api.openai import batches, files, models
from hidream_server.api.openai import images as openai_images
from hidream_server.api.schemas import GenerationRequest
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import HiDreamError, RequestError, StoreUnavailableError
from hidream_server.model_directory.reading import describe
from hidream_server.settings import Settings, options

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


@pytest.fixture(params=READMES, ids=lambda path: path.name)
def readme(request: pytest.FixtureRequest) -> str:
    return request.param.read_text(encoding="utf-8")


def rows(readme: str) -> list[list[str]]:
    """Return the cells of every table row."""
    lines = (line for line in readme.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def test_the_options_table_is_the_code(readme: str) -> None:
    documented = {tuple(row[:3]) for row in rows(readme) if row[0].startswith(("`-", "`--"))}
    declared = {
        (
            quoted(option.flags),
            quoted(option.env),
            "" if option.default is None else f"`{option.default}`",
        )
        for option in options()
    }
    assert documented == declared


def test_the_meaning_of_every_option_is_its_help() -> None:
    table = rows(READMES[0].read_text(encoding="utf-8"))
    meanings = {row[0]: row[3] for row in table if row[0].startswith("`-")}
    assert meanings == {quoted(option.flags): option.help for option in options()}


OURS = (events, health, images, listing, metrics, tasks)


def test_the_routes_table_is_the_code(readme: str) -> None:
    documented = {
        route.strip("`")
        for row in rows(readme)
        if re.match(r"`(GET|POST|DELETE) ", row[0])
        for route in row[0].split(", ")
    }
    declared = {
        f"{method} {route.path_format}"
        for module in (
            events,
            health,
            images,
            listing,
            metrics,
            offer,
            studio,
            tasks,
            files,
            batches,
            openai_images,
            models,
        )
        for route in module.router.routes
        for method in route.methods
    }
    assert documented == declared


def test_the_fields_table_is_the_code(readme: str) -> None:
    table = {row[0].strip("`"): row for row in rows(readme)}
    limits = Limits(Settings(), describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH))
    assert set(GenerationRequest.model_fields) <= set(table)
    for name, limit in limits.ranges.items():
        numbers = re.findall(r"\d+", table[name][2])
        assert [f"{limit.low:g}", f"{limit.high:.16g}"] == numbers[:2], name


def leaves(cls: type[HiDreamError]) -> list[type[HiDreamError]]:
    """Return the classes below one that have none below themselves."""
    below = [leaf for sub in cls.__subclasses__() for leaf in leaves(sub)]
    return below or [cls]


def test_every_error_code_that_a_client_may_see_is_documented(readme: str) -> None:
    table = {row[0]: row[1] for row in rows(readme)}
    for cls in [*leaves(RequestError), StoreUnavailableError]:
        error = cls([]) if "problems" in inspect.signature(cls).parameters else cls()
        assert f"`{error.code}`" in table[str(status_of(error))]


def test_every_folder_of_the_tree_exists(readme: str) -> None:
    tree = re.search(r"```\nscripts/.*?```", readme, re.DOTALL)
    assert tree is not None
    package = ROOT / "src" / "hidream_server"
    named = re.findall(r"^( *)([\w.]+/)", tree[0], re.MULTILINE)
    for indent, folder in named:
        assert ((package if indent else ROOT) / folder).is_dir(), folder
    folders = {path.name + "/" for path in package.iterdir() if path.is_dir()} - {"__pycache__/"}
    assert folders == {folder for indent, folder in named if indent}


def test_links_lead_to_files(readme: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (ROOT / target).exists(), target
