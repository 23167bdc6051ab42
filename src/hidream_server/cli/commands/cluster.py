"""`cluster …`: worker groups placed, restarted and scaled by a Ray cluster."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from hidream_server.errors import ClusterError

app = typer.Typer(no_args_is_help=True, help="Run workers on a Ray cluster.")

File = Annotated[Path, typer.Option("-f", "--file", help="YAML file with what is to be served")]
Address = Annotated[
    str, typer.Option("--address", envvar="RAY_ADDRESS", help="head of the Ray cluster")
]
HERE = "auto"


@app.command()
def deploy(file: File, address: Address = HERE) -> None:
    """Serve what a file says, and wait until it is, e.g. hidream cluster deploy -f hidream.yaml"""
    _require_ray()
    from hidream_server.cli.cluster import control
    from hidream_server.cli.cluster.config import read_cluster_file

    wanted = read_cluster_file(file)
    with control.connected(address):
        control.deploy(wanted)


@app.command()
def status(address: Address = HERE) -> None:
    """Say how each deployment is, e.g. hidream cluster status

    Exit code 0: all run.
    """
    _require_ray()
    from hidream_server.cli.cluster import control

    with control.connected(address):
        states = control.status()
    if not states:
        typer.echo("Nothing is deployed.")
    for name, state in states.items():
        typer.echo(f"{name}: {control.summary(state)}")
    if not all(control.runs(state) for state in states.values()):
        raise typer.Exit(1)


@app.command()
def down(address: Address = HERE) -> None:
    """Drain and stop all deployments, e.g. hidream cluster down"""
    _require_ray()
    from hidream_server.cli.cluster import control

    with control.connected(address):
        for name in control.take_down():
            typer.echo(f"{name}: stopped")


def _require_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("Ray is not installed: pip install 'hidream-server[ray]'.")
