"""Whoever reads the pages notices what is wrong with a block, and keeps what one leaves behind."""

from pathlib import Path

import pytest
import yaml

from hidream_server.errors import HiDreamError
from tests.documentation.blocks import ROOT, Block, Reader, blocks, environment, furnish
from tests.e2e.server import free_port

#: What the readers of each language raise.
WRONG = (AssertionError, SyntaxError, ValueError, HiDreamError, yaml.YAMLError)
NOWHERE = f"127.0.0.1:{free_port()}"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    furnish(tmp_path)
    return Reader(tmp_path, NOWHERE, environment(tmp_path, f"http://{NOWHERE}", tmp_path))


def block(language: str, text: str) -> Block:
    return Block(ROOT / "docs" / "page.md", 1, language, text)


def test_what_a_block_sets_those_that_follow_have(reader: Reader, tmp_path: Path) -> None:
    reader.read(block("bash", "TASK='a b'\necho one >file"))
    reader.read(block("python", "import os\nwords = os.environ['TASK'].split()"))
    reader.read(block("python", "with open('file', 'a') as file:\n    file.write(words[1])"))
    reader.read(block("bash", 'test "$(cat file) $TASK" = "one\nb a b"'))
    assert (tmp_path / "file").read_text() == "one\nb"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("bash", "false\ntrue"),
        ("bash", "echo $NOT_SET_ANYWHERE"),
        ("bash", "curl -s http://localhost:8088/health"),
        ("bash", "# needs an NPU\nif true; then"),
        ("python", "assert 1 == 2"),
        ("python", "# needs an NPU\ndef"),
        ("json", "{"),
        ("json", '{"prompt": "a circle", "num_inference_steps": 0}'),
        ("json", '{"prompt": "a circle", "steps": 1}'),
        ("json", '{"requests": []}'),
        ("toml", "prot = 8089"),
        ("toml", "port = 0"),
        ("yaml", "a: [1"),
        ("yaml", ""),
    ],
)
def test_a_wrong_block_is_noticed(reader: Reader, language: str, text: str) -> None:
    with pytest.raises(WRONG):
        reader.read(block(language, text))


def test_what_needs_something_is_not_run(reader: Reader) -> None:
    reader.read(block("bash", "# needs an NPU\nfalse"))
    reader.read(block("python", "# needs an NPU\nassert False"))


def test_blocks_in_lists_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "1. so\n\n   ```bash\n   true\n   ```\n\n> ```json\n> {}\n> ```\n\n    indented\n"
    )
    found = [(each.line, each.language, each.text) for each in blocks(page)]
    assert found == [(3, "bash", "true\n"), (7, "json", "{}\n"), (11, "", "indented\n")]
