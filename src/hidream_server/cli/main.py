"""The commands and their exit codes: 0 done, 1 refused with one sentence, 2 wrong usage."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hidream_server.cli.options import DATABASE, with_settings
from hidream_server.errors import HiDreamError, ModelDirectoryError, NotRunningError
from hidream_server.keys import KeyLimits, Scope
from hidream_server.settings import Settings
from hidream_server.task import Priority, TaskState

app = typer.Typer(
    help="HiDream-I1 as a service on your own cards.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


bench = typer.Typer(no_args_is_help=True, help="Measure on this machine.")
app.add_typer(bench, name="bench")
keys = typer.Typer(no_args_is_help=True, help="Say who may use the service.")
app.add_typer(keys, name="keys")
tasks = typer.Typer(no_args_is_help=True, help="See and cancel the tasks of a running server.")
app.add_typer(tasks, name="tasks")
#: Where a running server is, and who asks it.
Server = Annotated[
    str, typer.Option("--server", envvar="HIDREAM_SERVER", help="address of a running server")
]
Key = Annotated[
    str | None, typer.Option("--key", envvar="HIDREAM_API_KEY", help="API key, if it takes one")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
_HERE = "http://localhost:8088"
with_database = partial(with_settings, only=DATABASE)


@app.command()
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
        from hidream_server.cli.serving import decide

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


@app.command()
@with_settings
def doctor(settings: Settings) -> None:
    """Say what would be served, or what stands in the way, e.g. hidream doctor -m DIR -e DIR"""
    from hidream_server.cli.doctor import run_doctor

    run_doctor(settings)


@app.command()
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
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            envvar="HIDREAM_SERVER",
            help="address of a running server (default: one is started for this)",
        ),
    ] = None,
    key: Key = None,
    model_path: Annotated[
        str | None, typer.Option("-m", "--model-path", help="of a server that is started")
    ] = None,
    extra_model_path: Annotated[
        str | None, typer.Option("-e", "--extra-model-path", help="of a server that is started")
    ] = None,
    devices: Annotated[
        str | None, typer.Option("-d", "--devices", help="of a server that is started")
    ] = None,
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
    }
    started = {"-m": model_path, "-e": extra_model_path, "-d": devices}
    options = [word for flag, value in started.items() if value for word in (flag, value)]
    with connected(server, key, options) as client:
        request = {name: value for name, value in asked.items() if value is not None}
        run_generate(client, prompt, output, request, as_json)


@tasks.command("list")
def list_(
    state: Annotated[
        TaskState | None, typer.Option(help="only tasks in this state", show_choices=True)
    ] = None,
    limit: Annotated[int, typer.Option(help="at most so many", min=1)] = 20,
    server: Server = _HERE,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """List the latest tasks, e.g. hidream tasks list --state failed"""
    from hidream_server.cli.tasks import list_tasks
    from hidream_server.client import Client

    with Client(server, key) as client:
        list_tasks(client, state, limit, as_json)


TaskId = Annotated[str, typer.Argument(help="as listed", metavar="TASK_ID")]


@tasks.command("show")
def show_task_(
    task_id: TaskId, server: Server = _HERE, key: Key = None, as_json: Json = False
) -> None:
    """Say all that is known of a task, e.g. hidream tasks show 0b2c…"""
    from hidream_server.cli.tasks import show_task
    from hidream_server.client import Client

    with Client(server, key) as client:
        show_task(client.status(task_id), as_json)


@tasks.command("watch")
def watch(task_id: TaskId, server: Server = _HERE, key: Key = None, as_json: Json = False) -> None:
    """Follow a task to its end, e.g. hidream tasks watch 0b2c…"""
    from hidream_server.cli.tasks import watch_task
    from hidream_server.client import Client

    with Client(server, key) as client:
        watch_task(client, task_id, as_json)


@tasks.command("cancel")
def cancel(task_id: TaskId, server: Server = _HERE, key: Key = None, as_json: Json = False) -> None:
    """Cancel a task, e.g. hidream tasks cancel 0b2c…"""
    from hidream_server.cli.tasks import show_task
    from hidream_server.client import Client

    with Client(server, key) as client:
        show_task(client.cancel(task_id), as_json)


@bench.command("layouts")
@with_settings
def layouts(
    settings: Settings,
    width: Annotated[int, typer.Option(help="pixels", min=1)] = 1024,
    height: Annotated[int, typer.Option(help="pixels", min=1)] = 1024,
    steps: Annotated[int, typer.Option(help="steps to time for each layout", min=1)] = 5,
) -> None:
    """Time a guided step under every layout these devices allow, e.g. hidream bench layouts -c 4"""
    from hidream_server.cli.bench import bench_layouts

    bench_layouts(settings, width, height, steps)


@keys.command("create")
@with_database
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
    create_key(settings, name, scope, limits)


@keys.command("list")
@with_database
def show(settings: Settings) -> None:
    """List all keys, e.g. hidream keys list"""
    from hidream_server.cli.keys import list_keys

    list_keys(settings)


@keys.command("revoke")
@with_database
def revoke(
    settings: Settings, key_id: Annotated[str, typer.Argument(help="as listed", metavar="ID")]
) -> None:
    """Let a key be good for nothing, e.g. hidream keys revoke 1a2b3c4d"""
    from hidream_server.cli.keys import revoke_key

    revoke_key(settings, key_id)


@keys.command("webhook-secret")
@with_database
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


@app.command()
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


def _announce_stop(pid: int) -> None:
    typer.echo(f"Asked the server (process {pid}) to stop; its running tasks may finish.")


def run() -> None:
    """Run the command line; an error made on purpose is one sentence and exit code 1."""
    try:
        app(prog_name="hidream")
    except KeyboardInterrupt:
        sys.exit(130)
    except ModelDirectoryError as error:
        lines = "".join(f"\n  {finding}" for finding in error.findings)
        sys.exit(f"hidream: the model cannot be served:{lines}")
    except HiDreamError as error:
        sys.exit(f"hidream: {error}")
