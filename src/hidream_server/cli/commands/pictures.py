"""`generate`: a picture from the command line."""

from pathlib import Path
from typing import Annotated

import typer

from hidream_server.cli.commands.shared import Json, Key

_STARTED = "of a server that is started"


def generate(
    prompt: Annotated[str, typer.Argument(help="what is to be seen", metavar="PROMPT")],
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file to write")] = Path(
        "picture.png"
    ),
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels")] = None,
    steps: Annotated[int | None, typer.Option(help="denoising steps")] = None,
    guidance: Annotated[float | None, typer.Option(help="guidance scale")] = None,
    negative: Annotated[str | None, typer.Option(help="what to keep out")] = None,
    images: Annotated[int | None, typer.Option(help="how many pictures")] = None,
    seed: Annotated[int | None, typer.Option(help="same seed, same picture")] = None,
    infer_type: Annotated[
        str | None,
        typer.Option(
            help="Accuracy, Profiling, or Performance: less exact where the server is set so"
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            envvar="HIDREAM_SERVER",
            help="address of a running server (default: one is started for this)",
        ),
    ] = None,
    key: Key = None,
    model_path: Annotated[str | None, typer.Option("-m", "--model-path", help=_STARTED)] = None,
    extra_model_path: Annotated[
        str | None, typer.Option("-e", "--extra-model-path", help=_STARTED)
    ] = None,
    devices: Annotated[str | None, typer.Option("-d", "--devices", help=_STARTED)] = None,
    as_json: Json = False,
) -> None:
    """Make a picture, e.g. hidream generate "a red circle" -o out.png --size 512x512"""
    from hidream_server.cli.generate import connected, run_generate

    asked = {
        "resolution": size,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative,
        "num_images_per_prompt": images,
        "seed": seed,
        "infer_type": infer_type,
    }
    started = {"-m": model_path, "-e": extra_model_path, "-d": devices}
    options = [word for flag, value in started.items() if value for word in (flag, value)]
    with connected(server, key, options) as client:
        request = {name: value for name, value in asked.items() if value is not None}
        run_generate(client, prompt, output, request, as_json)
