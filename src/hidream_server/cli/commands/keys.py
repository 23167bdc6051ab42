"""`keys …`: who may use the service."""

from functools import partial
from typing import Annotated

import typer

from hidream_server.cli.commands.shared import Json
from hidream_server.cli.options import DATABASE, with_settings
from hidream_server.keys import KeyLimits, Scope
from hidream_server.settings import Settings
from hidream_server.task import Priority

app = typer.Typer(no_args_is_help=True, help="Say who may use the service.")

_with_database = partial(with_settings, only=DATABASE)


@app.command()
@_with_database
def create(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="whose key it is", metavar="NAME")],
    scope: Annotated[
        Scope, typer.Option(help="generate: its own tasks; admin: everything")
    ] = Scope.GENERATE,
    max_queued: Annotated[
        int | None, typer.Option(help="most tasks queued; 0 for no bound", min=0)
    ] = None,
    max_running: Annotated[
        int | None, typer.Option(help="most tasks running at once; 0 for no bound", min=0)
    ] = None,
    max_images_per_minute: Annotated[
        int | None, typer.Option(help="most images asked for in a minute; 0 for no bound", min=0)
    ] = None,
    weight: Annotated[
        float, typer.Option(help="its share of the service, beside keys with 1", min=0.01, max=100)
    ] = 1.0,
    priority: Annotated[
        Priority, typer.Option(help="the highest priority it may ask for")
    ] = Priority.HIGH,
    as_json: Json = False,
) -> None:
    """Make a key; from the first one on the service takes one, e.g. hidream keys create anna"""
    from hidream_server.cli.keys import create_key

    limits = KeyLimits(
        max_queued=max_queued,
        max_running=max_running,
        max_images_per_minute=max_images_per_minute,
        weight=weight,
        priority=priority,
    )
    create_key(settings, name, scope, limits, as_json)


@app.command("list")
@_with_database
def list_(settings: Settings, as_json: Json = False) -> None:
    """List all keys, e.g. hidream keys list"""
    from hidream_server.cli.keys import list_keys

    list_keys(settings, as_json)


@app.command()
@_with_database
def revoke(
    settings: Settings, key_id: Annotated[str, typer.Argument(help="as listed", metavar="ID")]
) -> None:
    """Let a key be good for nothing, e.g. hidream keys revoke 1a2b3c4d"""
    from hidream_server.cli.keys import revoke_key

    revoke_key(settings, key_id)


@app.command("webhook-secret")
@_with_database
def webhook_secret(
    settings: Settings,
    key_id: Annotated[
        str | None,
        typer.Argument(help="as listed; none for a service without keys", metavar="[ID]"),
    ] = None,
) -> None:
    """Print what a key's webhooks are signed with, e.g. hidream keys webhook-secret 1a2b3c4d"""
    from hidream_server.cli.keys import print_webhook_secret

    print_webhook_secret(settings, key_id)
