"""Makes pictures from the command line: by a running server, or by one of its own."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from hidream_server.cli.own_server import own_server
from hidream_server.client import Client, TaskNotCompletedError, TaskStatus
from hidream_server.errors import ConfigurationError
from hidream_server.task import TaskState


def run_generate(
    client: Client, prompt: str, output: Path, request: Mapping[str, Any], as_json: bool
) -> None:
    """Make pictures, and write each into a file of its own; raise a ClientError if it fails."""
    if not output.parent.is_dir():
        raise ConfigurationError(f"{output.parent} is no folder that {output.name} could be in.")
    with _bar() as on_progress:
        accepted = client.submit(prompt, **request)
        try:
            ended = client.wait(accepted.task_id, on_progress)
        except KeyboardInterrupt:
            client.cancel(accepted.task_id)
            raise
    if ended.state is not TaskState.COMPLETED:
        raise TaskNotCompletedError(ended)
    paths = _paths(output, len(ended.seeds))
    for path, data in zip(paths, client.pictures(ended.task_id), strict=True):
        _write(path, data)
    _say(paths, ended, as_json)


@contextlib.contextmanager
def connected(server: str | None, key: str | None, options: Sequence[str]) -> Iterator[Client]:
    """Give a client of a running server, or of one that is started with these options."""
    if server is not None:
        with Client(server, key) as client:
            yield client
    else:
        with own_server(options) as client:
            yield client


@contextlib.contextmanager
def _bar() -> Iterator[Any]:
    """Show a bar on the terminal, and nothing where there is none."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps {task.fields[left]}"),
    )
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        shown = progress.add_task("waiting for the model", total=None, left="")
        yield lambda status: _show(progress, shown, status)


def _show(progress: Progress, shown: TaskID, status: TaskStatus) -> None:
    done, steps = status.step
    left = "" if status.seconds_left is None else f"about {status.seconds_left:.0f} s left"
    progress.update(shown, description=status.state, completed=done, total=steps, left=left)


def _paths(output: Path, count: int) -> list[Path]:
    """Name a file for each picture: the one that was asked for, or numbered ones."""
    if count == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{index}") for index in range(count)]


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error


def _say(paths: Sequence[Path], ended: TaskStatus, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"files": [str(path) for path in paths], "task": ended.answer}))
        return
    for path, seed in zip(paths, ended.seeds, strict=True):
        typer.echo(f"{path} (seed {seed})")
