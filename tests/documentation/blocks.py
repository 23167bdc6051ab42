"""The code blocks of all pages, as markdown-it finds them, and how each language is tried.

Knows no server: whoever runs a page says under which address the blocks' one is reached.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from markdown_it import MarkdownIt

from hidream_server.api.limits import Limits
from hidream_server.api.schemas import BatchRequest, GenerationRequest
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.model_directory.reading import describe
from hidream_server.settings import Settings, load_settings
from tests.e2e.server import free_port

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]

#: What is only shown: what programs print, and settings of other programs.
SHOWN = {"text", "nginx"}
#: All that a block may say it needs; such a block is not run here, only read.
NEEDS = {
    "a bucket",
    "an NPU",
    "a CUDA GPU",
    "the checkpoints",
    "the hub",
    "other machines",
    "docker",
    "root",
    "a cluster",
    "the internet the first time",
    "a receiver on the internet",
    "a service that may end",
    "a service that is not running",
    "about 25 minutes on two cores",
}
#: The rest of a page finds what a block has set: bash writes its environment down.
_KEEP = "\nenv -0 >environment"
_PATIENCE_S = 280


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def needs(self) -> str | None:
        """What the first line says that the block needs."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("# needs ") if first.startswith("# needs ") else None


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's blocks, also those in lists and quotations."""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content)


class Reader:
    """One who tries a page from top to bottom: one folder, one environment, one Python."""

    def __init__(self, folder: Path, address: str, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._address = address
        self._other_port = free_port()
        self._environment = dict(environment)
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def read(self, block: Block) -> None:
        """Try a block; raise whatever goes wrong with it."""
        getattr(self, f"_{block.language}")(block)

    def _bash(self, block: Block) -> None:
        syntax = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
        assert syntax.returncode == 0, f"{block.place}: {syntax.stderr}"
        if block.needs is not None:
            return
        # What a block sets is set for those that follow, hence -a.
        done = subprocess.run(
            ["bash", "-euac", self._here(block.text) + _KEEP],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
        assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"
        pairs = (self._folder / "environment").read_text().split("\0")[:-1]
        self._environment = dict(pair.split("=", 1) for pair in pairs)

    def _python(self, block: Block) -> None:
        tree = ast.parse(self._here(block.text), block.place)
        if block.needs is None:
            with chdir(self._folder), patch.dict(os.environ, self._environment):
                exec(compile(tree, block.place, "exec"), self._names)

    def _json(self, block: Block) -> None:
        value = json.loads(block.text)
        if "prompt" in value or "requests" in value:
            _check_request(value)

    def _toml(self, block: Block) -> None:
        file = self._folder / "config.toml"
        file.write_text(block.text, encoding="utf-8")
        load_settings({}, file, {})

    def _yaml(self, block: Block) -> None:
        assert list(yaml.safe_load_all(block.text)), block.place

    def _here(self, text: str) -> str:
        """Say where the server really is, and which other port is free."""
        text = text.replace("--port 8089", f"--port {self._other_port}")
        return re.sub(r"(localhost|127\.0\.0\.1):8088\b", self._address, text)


def _check_request(value: Mapping[str, Any]) -> None:
    """Take a body as the routes take it; raise what they would answer with."""
    limits = Limits(Settings(), describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH))
    if "requests" in value:
        limits.accept(BatchRequest.model_validate(value).each(), batch=True)
    else:
        limits.accept([GenerationRequest.model_validate(value)])


def furnish(folder: Path) -> None:
    """Put into a folder what the blocks expect around them: the repository and its environment."""
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "examples").symlink_to(ROOT / "examples")
    # An answer that is an error is one for the block, too.
    (folder / ".curlrc").write_text("fail")


def environment(folder: Path, url: str, data_dir: Path) -> dict[str, str]:
    """Return an environment in which the commands of blocks act on one server."""
    server = {"HIDREAM_SERVER": url, "HIDREAM_DATA_DIR": str(data_dir)}
    return os.environ | server | {"CURL_HOME": str(folder)}
