"""The README's commands and the example, word for word, against a real server."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.e2e.server import Server, free_port

ROOT = Path(__file__).parent.parent.parent
#: Blocks with a first line like this are run by hand: they install, need weights, or end things.
BY_HAND = re.compile(r"# (needs|ends|takes) |bash scripts/start")
#: Without what would end more than the prompt.
PROMPT = re.compile(r"""(?<="prompt": ")[^"'\\]+(?=")""")


def blocks(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [block for block in found if not BY_HAND.match(block)]


def test_the_curl_examples_are_the_same_in_both_languages_but_for_their_prompts() -> None:
    english, chinese = (
        [PROMPT.sub("...", block) for block in blocks(name)]
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese


def test_the_curl_examples_end_with_pictures(server: Server, tmp_path: Path) -> None:
    """Those with Chinese prompts, which ask more of a shell."""
    examples = blocks("README.zh-CN.md")
    assert len(examples) == 2
    for block in examples:
        assert "localhost:8088" in block
        script = block.replace("localhost:8088", f"127.0.0.1:{server.port}")
        subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, timeout=280)
    expected = {"picture.png": (1024, 1024)}
    for width, height in ((1024, 1024), (1024, 768), (768, 1024), (512, 512)):
        expected[f"picture-{width}x{height}.png"] = (width, height)
    assert {path.name for path in tmp_path.iterdir()} == set(expected)
    for file, size in expected.items():
        with Image.open(tmp_path / file) as image:
            image.load()
            assert image.size == size


def test_the_python_example_ends_with_a_picture(server: Server, tmp_path: Path) -> None:
    english, chinese = (
        re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese
    [program] = english
    program = program.replace("localhost:8088", f"127.0.0.1:{server.port}")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=280)
    with Image.open(tmp_path / "circle.png") as image:
        assert image.size == (512, 512)


def run_example(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "test_api.py", "--url", f"http://127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_example_passes_against_a_server(server: Server) -> None:
    done = run_example(server.port)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything works." in done.stdout


def test_the_example_fails_against_a_dead_server() -> None:
    done = run_example(free_port())
    assert done.returncode != 0
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
