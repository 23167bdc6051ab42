"""The tasks of a running server, from the command line."""

import itertools
import json

import typer
from rich.console import Console
from rich.table import Column, Table

from hidream_server.client import Client, TaskNotCompletedError, TaskStatus
from hidream_server.task import TaskState

_ID_CHARS = 36


def list_tasks(client: Client, state: TaskState | None, limit: int, as_json: bool) -> None:
    """Print the latest tasks; as JSON one a line."""
    found = list(itertools.islice(client.tasks(state), limit))
    if as_json:
        for status in found:
            typer.echo(json.dumps(status.answer))
        return
    # An id is to be copied: it is never broken, however narrow the terminal.
    task_id = Column("task", no_wrap=True, min_width=_ID_CHARS)
    table = Table(task_id, "state", "progress", "prompt")
    for status in found:
        table.add_row(status.task_id, status.state, f"{status.progress} %", _short(status))
    Console(soft_wrap=True, highlight=False, markup=False).print(table)


def show_task(status: TaskStatus, as_json: bool) -> None:
    """Print all that is known of a task."""
    if as_json:
        typer.echo(json.dumps(status.answer))
        return
    for name, value in {**status.answer, **status.answer["request"]}.items():
        if name != "request" and value not in (None, "", [], False):
            typer.echo(f"{name}: {value}")


def watch_task(client: Client, task_id: str, as_json: bool) -> None:
    """Print what a task comes to, line by line; raise TaskNotCompletedError if to no picture."""

    def tell(status: TaskStatus) -> None:
        typer.echo(json.dumps(status.answer) if as_json else _line(status))

    ended = client.wait(task_id, tell)
    if ended.state is not TaskState.COMPLETED:
        raise TaskNotCompletedError(ended)


def _line(status: TaskStatus) -> str:
    done, steps = status.step
    parts: list[str] = [status.state, f"step {done} of {steps}"]
    if status.queue_position is not None:
        parts.append(f"{status.queue_position} before it")
    if status.seconds_left is not None:
        parts.append(f"about {status.seconds_left:.0f} s left")
    return ", ".join([*parts, *status.picture_urls])


def _short(status: TaskStatus, most: int = 60) -> str:
    prompt = " ".join(str(status.request["prompt"]).split())
    return prompt if len(prompt) <= most else prompt[: most - 1] + "…"
