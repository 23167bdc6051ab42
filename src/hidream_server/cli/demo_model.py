"""Copies the embedded demo model to where its files can be looked at, or changed."""

import json
import shutil
from pathlib import Path

import typer

from hidream_server.cli.disk import check_folder
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import ConfigurationError


def run_demo_model(to: Path | None, as_json: bool) -> None:
    """Print the two directories of the demo model, or of the copy that is made of them."""
    model, llama = DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH
    if to is not None:
        check_folder(to, "FOLDER")
        model, llama = _copy(model, to), _copy(llama, to)
    if as_json:
        typer.echo(json.dumps({"model": str(model), "llama": str(llama)}))
    else:
        typer.echo(f"hidream serve -m {model} -e {llama}")


def _copy(folder: Path, to: Path) -> Path:
    copy = to.absolute() / folder.name
    if copy.exists():
        raise ConfigurationError(f"{copy} is there already: choose another folder.")
    shutil.copytree(folder, copy)
    return copy
