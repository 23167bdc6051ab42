"""Fetches published models into folders that the server can serve, and checks what arrived."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from hidream_server.cli.disk import check_folder, free_bytes
from hidream_server.cli.hub import Hub, Published, RemoteFile
from hidream_server.errors import DownloadError, Finding, ModelDirectoryError
from hidream_server.model_directory.reading import describe
from hidream_server.model_directory.safetensors_header import UnreadableWeightsError, read_header

_GB = 1e9


def run_download(chosen: Sequence[Published], to: Path, hub: Hub, as_json: bool) -> None:
    """Fetch what is not there yet; raise a HiDreamError if then it is not all there and whole."""
    check_folder(to, "--to")
    plans = {model: hub.files(model, to / model.folder) for model in chosen}
    _check_room(to, [file for files in plans.values() for file in files])
    for model, files in plans.items():
        _announce(model, to / model.folder, files)
        hub.fetch(model, to / model.folder)
        _check_arrived(files)
    folders = [to / model.folder for model in chosen if model is not Published.LLAMA]
    llama = to / Published.LLAMA.folder
    if llama.is_dir():
        for folder in folders:
            describe(folder, llama)
    _say(folders, llama, as_json)


def _check_room(to: Path, files: Sequence[RemoteFile]) -> None:
    """Raise DownloadError before anything is fetched that there is no room for."""
    needed, free = sum(file.size for file in files if not file.is_here), free_bytes(to)
    if needed > free:
        raise DownloadError(
            f"There are {free / _GB:.1f} GB free at {to}, and {needed / _GB:.1f} GB are to come:"
            " choose another folder with --to."
        )


def _announce(model: Published, folder: Path, files: Sequence[RemoteFile]) -> None:
    missing = [file for file in files if not file.is_here]
    size = sum(file.size for file in missing) / _GB
    typer.echo(
        f"{model.repository}: {len(missing)} of {len(files)} files, {size:.2f} GB, to come"
        f" into {folder}",
        err=True,
    )


def _check_arrived(files: Sequence[RemoteFile]) -> None:
    """Raise ModelDirectoryError for files that are not there, not whole, or no weights."""
    findings = [Finding(str(file.path), problem) for file in files if (problem := _problem(file))]
    if findings:
        raise ModelDirectoryError(findings)


def _problem(file: RemoteFile) -> str | None:
    if not file.path.is_file():
        return "did not arrive"
    if (size := file.path.stat().st_size) != file.size:
        return f"is not whole: {size} bytes of {file.size}"
    if file.path.suffix == ".safetensors":
        try:
            read_header(file.path)
        except UnreadableWeightsError as error:
            return str(error)
    return None


def _say(models: Sequence[Path], llama: Path, as_json: bool) -> None:
    """Print where all is, and what to do next."""
    if as_json:
        found = {"models": [str(path) for path in models], "llama": _path(llama)}
        typer.echo(json.dumps(found))
        return
    if not llama.is_dir():
        typer.echo("All is here but the Llama that goes with it: hidream download llama")
    elif not models:
        typer.echo(f"{llama}: all is here. What it goes with: hidream download full")
    for model in models:
        typer.echo(f"hidream serve -m {model} -e {llama}")


def _path(folder: Path) -> str | None:
    return str(folder) if folder.is_dir() else None
