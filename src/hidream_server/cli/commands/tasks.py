"""`status` and `tasks …`: how a running server is, what it has to do, and has done."""

from typing import Annotated

import typer

from hidream_server.cli.commands.shared import HERE, Json, Key, Server
from hidream_server.task import TaskState

app = typer.Typer(no_args_is_help=True, help="See and cancel the tasks of a running server.")

TaskId = Annotated[str, typer.Argument(help="as listed", metavar="TASK_ID")]


@app.command("list")
def list_(
    state: Annotated[
        TaskState | None, typer.Option(help="only tasks in this state", show_choices=True)
    ] = None,
    limit: Annotated[int, typer.Option(help="at most so many", min=1)] = 20,
    server: Server = HERE,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """List the latest tasks, e.g. hidream tasks list --state failed"""
    from hidream_server.cli.tasks import list_tasks
    from hidream_server.client import Client

    with Client(server, key) as client:
        list_tasks(client, state, limit, as_json)


@app.command()
def show(task_id: TaskId, server: Server = HERE, key: Key = None, as_json: Json = False) -> None:
    """Say all that is known of a task, e.g. hidream tasks show 0b2c…"""
    from hidream_server.cli.tasks import show_task
    from hidream_server.client import Client

    with Client(server, key) as client:
        show_task(client.status(task_id), as_json)


@app.command()
def watch(task_id: TaskId, server: Server = HERE, key: Key = None, as_json: Json = False) -> None:
    """Follow a task to its end, e.g. hidream tasks watch 0b2c…"""
    from hidream_server.cli.tasks import watch_task
    from hidream_server.client import Client

    with Client(server, key) as client:
        watch_task(client, task_id, as_json)


@app.command()
def cancel(task_id: TaskId, server: Server = HERE, key: Key = None, as_json: Json = False) -> None:
    """Cancel a task, e.g. hidream tasks cancel 0b2c…"""
    from hidream_server.cli.tasks import show_task
    from hidream_server.client import Client

    with Client(server, key) as client:
        show_task(client.cancel(task_id), as_json)


def status(server: Server = HERE, key: Key = None, as_json: Json = False) -> None:
    """Say how a running service is, on all its machines, e.g. hidream status

    Exit code 0: a worker group is ready.
    """
    from hidream_server.cli.status import show_status
    from hidream_server.client import Client

    with Client(server, key) as client:
        if not show_status(client, as_json):
            raise typer.Exit(1)
