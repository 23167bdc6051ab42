"""Times every layout that this machine's devices allow, and names the best."""

import subprocess
from collections.abc import Iterator

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from hidream_server.cli.deciding import decide
from hidream_server.cli.serving import Serving
from hidream_server.engine.launchers.torchrun import inherited_environment, torchrun_command
from hidream_server.errors import ConfigurationError, GroupStartError, NodesError
from hidream_server.ipc.bench import LayoutBench, LayoutTiming
from hidream_server.layouts.choice import possible
from hidream_server.settings import Settings


def bench_layouts(settings: Settings, width: int, height: int, steps: int, as_json: bool) -> None:
    """Print step time, weights and traffic of each layout; raise ConfigurationError if none."""
    serving = decide(settings)
    if not serving.model.paints(width, height):
        raise ConfigurationError(
            f"{width}x{height} cannot be painted: give {serving.model.allowed_sizes}."
        )
    if serving.nodes.several:
        raise NodesError("hidream bench measures one machine: leave out --nnodes.")
    config, cards = serving.model.transformer, len(serving.devices.ids)
    layouts = [str(layout) for layout in possible(config, cards) if serving.fits(layout)]
    timings = sorted(
        run_layouts(serving, layouts, width, height, steps), key=lambda timing: timing.step_s
    )
    if as_json:
        typer.echo(msgspec.json.encode(timings).decode())
    else:
        _print(timings, width, height)


def _print(timings: list[LayoutTiming], width: int, height: int) -> None:
    """Print a table, the fastest layout first."""
    table = Table("layout", "step (ms)", "transformer (MB per rank)", "sent (MB per step)")
    for timing in timings:
        table.add_row(
            timing.layout,
            f"{1000 * timing.step_s:.1f}",
            f"{timing.weight_bytes / 1e6:.1f}",
            f"{timing.sent_bytes / 1e6:.2f}",
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    best = timings[0].layout
    console.print(f"Fastest here for one guided picture of {width}x{height}: {best}")


def run_layouts(
    serving: Serving, layouts: list[str], width: int, height: int, steps: int
) -> Iterator[LayoutTiming]:
    """Yield the timing of each layout in turn; one may be named again."""
    devices, model = serving.devices, serving.model
    bench = LayoutBench(
        model_path=str(model.path),
        extra_model_path=str(model.extra_path) if model.extra_path else None,
        device_type=devices.kind.name,
        layouts=layouts,
        width=width,
        height=height,
        steps=steps,
    )
    command = torchrun_command(len(devices.ids), "hidream_server.worker.layout_bench")
    environment = {
        **inherited_environment(),
        **devices.kind.environment(devices.ids, len(devices.ids)),
    }
    with subprocess.Popen(
        [*command, msgspec.json.encode(bench).decode()],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield msgspec.json.decode(line, type=LayoutTiming)
    if process.returncode != 0:
        raise GroupStartError(
            f"The ranks ended with code {process.returncode}: the lines above say why."
        )
