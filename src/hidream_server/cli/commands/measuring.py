"""`bench …` measures on this machine; `simulate` needs none."""

from typing import Annotated

import typer

from hidream_server.cli.commands.shared import Json
from hidream_server.cli.options import with_settings
from hidream_server.settings import Settings

bench = typer.Typer(no_args_is_help=True, help="Measure on this machine.")


@bench.command()
@with_settings
def layouts(
    settings: Settings,
    width: Annotated[int, typer.Option(help="pixels", min=1)] = 1024,
    height: Annotated[int, typer.Option(help="pixels", min=1)] = 1024,
    steps: Annotated[int, typer.Option(help="steps to time for each layout", min=1)] = 5,
    as_json: Json = False,
) -> None:
    """Time a guided step under every layout these devices allow, e.g. hidream bench layouts -c 4"""
    from hidream_server.cli.bench import bench_layouts

    bench_layouts(settings, width, height, steps, as_json)


def simulate(
    load: Annotated[float, typer.Option(help="work that comes, 1 is all there is", min=0.01)] = 0.8,
    tasks: Annotated[int, typer.Option(help="tasks that come", min=1)] = 400,
    clients: Annotated[int, typer.Option(help="clients they belong to", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="of the arrivals")] = 0,
    mix: Annotated[
        str | None,
        typer.Option(
            help="kinds of task, by default the documented sizes in 16, 28 and 50 guided steps,"
            " e.g. 512x512/16,1024x768/50g*4: g is guided, *4 four images"
        ),
    ] = None,
) -> None:
    """Compare scheduling policies by arithmetic alone, e.g. hidream simulate --load 0.9"""
    from hidream_server.cli.simulate import run_simulation

    run_simulation(load, tasks, clients, seed, mix)
