"""`download` and `demo-model`: model directories to serve from."""

from pathlib import Path
from typing import Annotated

import typer

from hidream_server.cli.commands.shared import Json
from hidream_server.cli.hub import HUB, Hub, Published
from hidream_server.settings import DEFAULT_MODEL_PATH


def download(
    models: Annotated[
        list[Published] | None,
        typer.Argument(
            help="which of them (default: full and llama, all that the server needs)",
            metavar="[full|dev|fast|llama]...",
        ),
    ] = None,
    to: Annotated[
        Path, typer.Option(help="folder for a folder of each of them")
    ] = DEFAULT_MODEL_PATH.parent,
    hub: Annotated[
        str,
        typer.Option(
            "--hub",
            envvar=["HIDREAM_HUB", "HF_ENDPOINT"],
            help="address of the hub, or of a mirror of it",
        ),
    ] = HUB,
    token: Annotated[
        str | None,
        typer.Option(
            envvar=["HIDREAM_HUB_TOKEN", "HF_TOKEN"],
            help="access token of the hub; Llama's licence must be accepted there first",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch published models, e.g. hidream download full llama --to /data"""
    from hidream_server.cli.download import run_download

    chosen = models or [Published.FULL, Published.LLAMA]
    run_download(list(dict.fromkeys(chosen)), to, Hub(hub.rstrip("/"), token), as_json)


def demo_model(
    to: Annotated[
        Path | None,
        typer.Argument(help="folder for a copy (default: none is made)", metavar="[FOLDER]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say where the embedded demo model is, or copy it, e.g. hidream demo-model models"""
    from hidream_server.cli.demo_model import run_demo_model

    run_demo_model(to, as_json)
