"""The command line and its exit codes: 0 done, 1 refused with one sentence, 2 wrong usage."""

import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import TyperException

from hidream_server import __version__
from hidream_server.cli.commands import cluster, keys, measuring, models, pictures, service, tasks
from hidream_server.errors import HiDreamError, ModelDirectoryError

app = typer.Typer(
    help="HiDream-I1 as a service on your own cards.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(service.serve)
app.command("worker")(service.worker)
app.command("doctor")(service.doctor)
app.command("generate")(pictures.generate)
app.command("status")(tasks.status)
app.add_typer(tasks.app, name="tasks")
app.add_typer(keys.app, name="keys")
app.add_typer(cluster.app, name="cluster")
app.command("download")(models.download)
app.command("demo-model")(models.demo_model)
app.add_typer(measuring.bench, name="bench")
app.command("simulate")(measuring.simulate)

#: What typer raises to end a command, which says all there is to say.
_ENDS = (typer.Exit, typer.Abort, TyperException)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hidream {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="show where in the program an error arose")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="print the version", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """HiDream-I1 as a service on your own cards."""
    if verbose:
        context.call_on_close(_show_trace)


def _show_trace() -> None:
    """Print where the error arose that ends the command, if one does."""
    error = sys.exception()
    if isinstance(error, Exception) and not isinstance(error, _ENDS):
        traceback.print_exception(error)


def run() -> None:
    """Run the command line; an error is one sentence and exit code 1."""
    try:
        app(prog_name="hidream")
    except KeyboardInterrupt:
        sys.exit(130)
    except ModelDirectoryError as error:
        lines = "".join(f"\n  {finding}" for finding in error.findings)
        sys.exit(f"hidream: the model cannot be served:{lines}")
    except HiDreamError as error:
        sys.exit(f"hidream: {error}")
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        sys.exit(f"hidream: a mistake of the program, {what} (hidream -v … shows where)")
