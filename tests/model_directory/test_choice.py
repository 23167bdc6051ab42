"""Which model is served: the one given, the one at the default path, or the demo."""

from pathlib import Path

import pytest

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import ModelDirectoryError, PathMissingError
from hidream_server.model_directory.choice import choose_model
from hidream_server.settings import Settings
from tests.support import linked_demo


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return linked_demo(tmp_path)


@pytest.fixture
def llama(model: Path) -> Path:
    return model.parent / DEMO_EXTRA_MODEL_PATH.name


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    return tmp_path / "nowhere"


def refusal(settings: Settings, default: Path, default_extra: Path) -> str:
    """Return the one sentence with which these settings are refused."""
    with pytest.raises(PathMissingError) as caught:
        choose_model(settings, default, default_extra)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_with_nothing_given_and_nothing_at_the_default_path_the_demo_is_served(nowhere):
    chosen = choose_model(Settings(), nowhere, nowhere)
    assert chosen.is_demo
    assert (chosen.path, chosen.extra_path) == (DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)


def test_the_default_paths_are_served_where_they_exist(model, llama):
    chosen = choose_model(Settings(), model, llama)
    assert not chosen.is_demo
    assert (chosen.path, chosen.extra_path) == (model, llama)


def test_the_paths_given_are_served(model, llama, nowhere):
    settings = Settings(model_path=model, extra_model_path=llama)
    chosen = choose_model(settings, nowhere, nowhere)
    assert (chosen.path, chosen.extra_path) == (model, llama)


def test_the_path_given_is_taken_before_the_default_one(model, llama):
    chosen = choose_model(Settings(model_path=DEMO_MODEL_PATH), model, llama)
    assert (chosen.path, chosen.extra_path) == (DEMO_MODEL_PATH, llama)


def test_a_llama_given_alone_goes_with_the_default_model(model, llama, nowhere):
    chosen = choose_model(Settings(extra_model_path=llama), model, nowhere)
    assert (chosen.path, chosen.extra_path) == (model, llama)


@pytest.mark.parametrize(("option", "flag"), [("model_path", "-m"), ("extra_model_path", "-e")])
def test_a_path_that_is_given_must_exist_even_if_the_default_one_does(
    model, llama, nowhere, option, flag
):
    message = refusal(Settings(**{option: nowhere}), model, llama)
    assert str(nowhere) in message
    assert flag in message


def test_a_file_is_no_model_directory(model, llama):
    message = refusal(Settings(model_path=model / "model_index.json"), model, llama)
    assert "model_index.json" in message


def test_a_llama_without_a_model_is_refused_rather_than_the_demo_served(llama, nowhere):
    message = refusal(Settings(extra_model_path=llama), nowhere, nowhere)
    assert str(nowhere) in message
    assert "-m" in message


def test_a_model_that_cannot_be_served_is_refused_rather_than_the_demo_served(
    model, llama, nowhere
):
    (model / "model_index.json").unlink()
    with pytest.raises(ModelDirectoryError):
        choose_model(Settings(), model, llama)


def test_a_model_without_any_llama_is_refused(model, nowhere):
    with pytest.raises(ModelDirectoryError, match="-e"):
        choose_model(Settings(model_path=model), nowhere, nowhere)
