"""The benchmark of layouts really runs them, and counts what they send."""

import pytest
from typer.testing import CliRunner

from hidream_server.cli.bench import run_layouts
from hidream_server.cli.deciding import decide
from hidream_server.cli.main import app
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import ConfigurationError, GroupStartError
from hidream_server.layouts.cost import Picture, step_cost
from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.description import TEXT_TOKENS
from hidream_server.settings import Settings

SETTINGS = Settings(
    model_path=DEMO_MODEL_PATH,
    extra_model_path=DEMO_EXTRA_MODEL_PATH,
    device_type="cpu",
    device_count=2,
)
#: Of the demo model at 512x512.
PICTURE = Picture(image_tokens=64, text_tokens=TEXT_TOKENS, rows=2)


def test_each_layout_is_timed_as_often_as_it_is_named_and_sends_what_the_formula_says():
    serving = decide(SETTINGS)
    names = ["tp1", "tp2", "sp2", "tp1"]
    timings = list(run_layouts(serving, names, 512, 512, 1))
    assert [timing.layout for timing in timings] == names
    one, tensor, sequence, again = timings
    assert one.weight_bytes == again.weight_bytes == sequence.weight_bytes > tensor.weight_bytes
    assert one.sent_bytes == 0
    for timing in (tensor, sequence):
        layout = Layout.parse(timing.layout)
        expected = step_cost(serving.model.transformer, layout, PICTURE, value_bytes=4)
        # What else is sent, like the sums of the norms, does not grow with the width.
        assert timing.sent_bytes == pytest.approx(expected.sent_bytes, rel=0.2)


def test_ranks_that_end_badly_are_no_result():
    with pytest.raises(GroupStartError, match="code"):
        list(run_layouts(decide(SETTINGS), ["tp1", "tp3"], 512, 512, 1))


def test_a_size_that_cannot_be_painted_is_refused():
    result = CliRunner().invoke(app, ["bench", "layouts", "-t", "cpu", "--width", "500"])
    assert isinstance(result.exception, ConfigurationError)
    assert "500x1024" in str(result.exception)
