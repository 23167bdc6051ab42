"""Chooses the model to serve: the one given, the one at the default path, or the demo model."""

from pathlib import Path

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import PathMissingError
from hidream_server.model_directory.description import ModelDescription
from hidream_server.model_directory.reading import describe
from hidream_server.settings import DEFAULT_EXTRA_MODEL_PATH, DEFAULT_MODEL_PATH, Settings


def choose_model(
    settings: Settings,
    default_path: Path = DEFAULT_MODEL_PATH,
    default_extra_path: Path = DEFAULT_EXTRA_MODEL_PATH,
) -> ModelDescription:
    """Describe the model that these settings serve; a path that is given must exist."""
    _must_exist(settings.model_path, "model path", "-m")
    _must_exist(settings.extra_model_path, "extra model path", "-e")
    path = settings.model_path or default_path
    if path.is_dir():
        extra = settings.extra_model_path or default_extra_path
        return describe(path, extra if extra.is_dir() else None)
    if settings.extra_model_path is not None:
        raise PathMissingError(
            f"-e was given, but there is no model at {path}: give the model directory with -m."
        )
    return describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)


def _must_exist(path: Path | None, what: str, flag: str) -> None:
    if path is not None and not path.is_dir():
        raise PathMissingError(
            f"The {what} {path} does not exist:"
            f" give an existing directory with {flag}, or leave it out."
        )
