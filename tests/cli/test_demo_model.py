"""The demo model can be found, and copied to where it can be served from."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from hidream_server.cli.deciding import decide
from hidream_server.cli.main import app
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import ConfigurationError
from hidream_server.settings import Settings


def demo_model(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["demo-model", *arguments])


def test_where_it_is_is_said():
    said = {"model": str(DEMO_MODEL_PATH), "llama": str(DEMO_EXTRA_MODEL_PATH)}
    assert json.loads(demo_model("--json").output) == said
    assert demo_model().output == f"hidream serve -m {DEMO_MODEL_PATH} -e {DEMO_EXTRA_MODEL_PATH}\n"


def test_a_copy_can_be_served_and_is_not_called_the_demo(tmp_path):
    copy = json.loads(demo_model(str(tmp_path / "models"), "--json").output)
    serving = decide(
        Settings(
            model_path=Path(copy["model"]),
            extra_model_path=Path(copy["llama"]),
            device_type="cpu",
        )
    )
    assert not serving.model.is_demo
    assert serving.model.path == tmp_path / "models" / "HiDream-I1-Demo"


def test_nothing_that_is_there_is_written_over(tmp_path):
    assert demo_model(str(tmp_path)).exit_code == 0
    again = demo_model(str(tmp_path))
    assert again.exit_code == 1
    assert isinstance(again.exception, ConfigurationError)
    assert "is there already" in str(again.exception)
