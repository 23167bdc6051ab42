"""The commands that make the demo model, in the order of use: `python -m training --help`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from random import Random

import numpy as np
import torch

from . import autoencoder, language, prompts, settings, transformer, watch, workers
from .export import export, load
from .generate import Generator
from .judge import judge, paint_all
from .latents import make_measure, make_shards
from .painter import paint
from .scene import draw_scene
from .sheet import SHEETS, contact_sheet


def _size(text: str) -> tuple[int, int]:
    width, height = (int(side) for side in text.split("x"))
    return height, width


def _run_options(parser: argparse.ArgumentParser, run: type) -> None:
    """Give a run's every field an option of its own."""
    for field in fields(run):
        flag = "--" + field.name.replace("_", "-")
        if field.default is MISSING:
            parser.add_argument(flag, required=True)
        elif isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default)


def _run(arguments: argparse.Namespace, run: type):
    return run(**{field.name: getattr(arguments, field.name) for field in fields(run)})


def _sampling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=_size, default=(512, 512), help="such as 1024x768")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--fast", action="store_true", help="the second scheduler, no guidance")


def _how(arguments: argparse.Namespace) -> dict:
    return {name: getattr(arguments, name) for name in ("size", "steps", "guidance", "fast")}


def _painted(arguments: argparse.Namespace) -> None:
    rng, numbers = Random(arguments.seed), np.random.default_rng(arguments.seed)
    sizes = settings.PICTURE_SIZES
    pictures = [paint(draw_scene(rng), *sizes[n % len(sizes)], numbers) for n in range(24)]
    contact_sheet(pictures, 6).save(arguments.to)


def _latents(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    vae = autoencoder.finished(arguments.autoencoder)
    numbers = list(range(arguments.first, arguments.stop, arguments.stride))
    make_shards(arguments.folder, vae, numbers)
    if 0 in numbers:
        make_measure(arguments.folder, vae, exported=arguments.autoencoder.is_dir())


def _export(arguments: argparse.Namespace) -> None:
    vae = autoencoder.finished(arguments.autoencoder)
    export(transformer.averaged(arguments.transformer, vae), arguments.to)


def _score(arguments: argparse.Namespace) -> None:
    asked = prompts.read_prompts()[: arguments.count]
    score = judge(Generator(load(arguments.model)), asked, **_how(arguments))
    print(json.dumps(score, indent=2))


def _sheet(arguments: argparse.Namespace) -> None:
    texts = arguments.prompt or [p.text for p in prompts.read_prompts()[: arguments.count]]
    asked = [prompts.Prompt(text=t, family="", language="", expected={}) for t in texts]
    pictures = list(paint_all(Generator(load(arguments.model)), asked, **_how(arguments)))
    contact_sheet(pictures, arguments.columns).save(arguments.to)


def _sheets(arguments: argparse.Namespace) -> None:
    generator = Generator(load(arguments.model))
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name, (columns, asked) in SHEETS.items():
        pictures = [
            generator.paint([text], size, seed=n)[0] for n, (text, size) in enumerate(asked)
        ]
        contact_sheet(pictures, columns).save(arguments.to / f"{name}.jpg", quality=90)


def _watch(arguments: argparse.Namespace) -> None:
    watch.watch(
        arguments.transformer, arguments.autoencoder, arguments.to, arguments.log,
        count=arguments.count, minutes=arguments.minutes, **_how(arguments),
    )  # fmt: skip


def _train_autoencoder(arguments: argparse.Namespace) -> None:
    run = _run(arguments, autoencoder.AutoencoderRun)
    workers.launch(autoencoder.train, run.processes, run)


def _train_language(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    language.train(_run(arguments, language.LanguageRun))


def _train_transformer(arguments: argparse.Namespace) -> None:
    run = _run(arguments, transformer.TransformerRun)
    workers.launch(transformer.train, run.processes, run)


def _judging(
    command: Callable[..., argparse.ArgumentParser], watched: argparse.ArgumentParser
) -> None:
    """Add the commands that look at a finished model."""
    score = command("score", _score, "count what is right in pictures of held-out prompts")
    sheet = command("sheet", _sheet, "paint prompts onto a contact sheet")
    sheet.add_argument("--to", type=Path, required=True)
    sheet.add_argument("--columns", type=int, default=4)
    sheet.add_argument("--prompt", action="append", help="instead of the held-out ones")
    for added in (score, sheet):
        added.add_argument("--model", type=Path, required=True, help="the folder of both models")
    sheets = command("sheets", _sheets, "paint the documentation's contact sheets")
    sheets.add_argument("--model", type=Path, required=True, help="the folder of both models")
    sheets.add_argument("--to", type=Path, required=True, help="a folder")
    for added, count in ((score, 200), (sheet, 12), (watched, 24)):
        added.add_argument("--count", type=int, default=count)
        _sampling_options(added)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, action, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text)
        added.set_defaults(action=action)
        return added

    painted = command("painted", _painted, "show what the training pictures look like")
    painted.add_argument("--to", type=Path, required=True)
    painted.add_argument("--seed", type=int, default=0)
    _run_options(
        command("autoencoder", _train_autoencoder, "train the autoencoder"),
        autoencoder.AutoencoderRun,
    )
    latents = command("latents", _latents, "paint pictures and keep their latents")
    latents.add_argument("--autoencoder", type=Path, required=True)
    latents.add_argument("--folder", type=Path, required=True)
    latents.add_argument("--first", type=int, default=0)
    latents.add_argument("--stop", type=int, required=True)
    latents.add_argument("--stride", type=int, default=1)
    _run_options(
        command("language", _train_language, "teach the text encoders to read"),
        language.LanguageRun,
    )
    _run_options(
        command("transformer", _train_transformer, "train the transformer on the latents"),
        transformer.TransformerRun,
    )
    watched = command("watch", _watch, "score a running training and export it when better")
    watched.add_argument("--log", type=Path, required=True)
    watched.add_argument("--minutes", type=float, default=10)
    exported = command("export", _export, "write the model directories")
    for added in (watched, exported):
        added.add_argument("--transformer", type=Path, required=True)
        added.add_argument("--autoencoder", type=Path, required=True)
        added.add_argument("--to", type=Path, required=True)
    _judging(command, watched)
    return parser


def main() -> None:
    arguments = _parser().parse_args()
    arguments.action(arguments)


if __name__ == "__main__":
    main()
