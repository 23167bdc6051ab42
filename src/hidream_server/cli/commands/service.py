"""`serve` and `doctor`: the commands that have every option of the server."""

from typing import Annotated

import typer

from hidream_server.cli.commands.shared import Json
from hidream_server.cli.options import with_settings
from hidream_server.errors import NotRunningError
from hidream_server.settings import Settings


@with_settings
def serve(
    settings: Settings,
    stop: Annotated[bool, typer.Option("--stop", help="stop the running server and exit")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="stop a running server first")] = False,
) -> None:
    """Start the service, e.g. hidream serve -m /data/HiDream-I1-Full -d 0"""
    from hidream_server.cli.instance import stop_instance

    if restart:
        # Options that cannot be served must not cost a running service.
        from hidream_server.cli.deciding import decide

        decide(settings)
    if stop or restart:
        try:
            pid = stop_instance(settings.data_dir, announce=_announce_stop)
            typer.echo(f"Stopped the server (process {pid}).")
        except NotRunningError:
            if stop:
                raise
    if not stop:
        from hidream_server.cli.server import run_server

        run_server(settings)


@with_settings
def worker(settings: Settings) -> None:
    """Do the work of servers on the same database, e.g. hidream worker --database-url URL …

    hidream worker --database-url postgresql://host/tasks --results s3://bucket -m DIR -d 0,1
    """
    if settings.node_rank:
        from hidream_server.cli.lending import run_lender

        run_lender(settings)
        return
    from hidream_server.cli.worker import run_worker

    run_worker(settings)


@with_settings
def doctor(settings: Settings, as_json: Json = False) -> None:
    """Say what would be served, and all that stands in the way, e.g. hidream doctor -m DIR -e DIR

    Exit code 0: it would be served.
    """
    from hidream_server.cli.doctor import run_doctor

    if not run_doctor(settings, as_json):
        raise typer.Exit(1)


def _announce_stop(pid: int) -> None:
    typer.echo(f"Asked the server (process {pid}) to stop; its running tasks may finish.")
