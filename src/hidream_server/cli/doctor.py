"""Says what would be served, or what stands in the way: of a model directory, everything."""

import os

from rich.console import Console
from rich.table import Table

from hidream_server.cli.serving import Serving, decide
from hidream_server.settings import Settings

_GB = 1e9


def run_doctor(settings: Settings) -> None:
    """Print what these settings serve; raise ConfigurationError if they serve nothing."""
    _print_serving(Console(soft_wrap=True, highlight=False), decide(settings))


def _print_serving(console: Console, serving: Serving) -> None:
    model, devices = serving.model, serving.devices
    variant = model.variant
    console.print(f"model:   {model.path}{'  (embedded demo model)' if model.is_demo else ''}")
    console.print(f"llama:   {model.extra_path or model.path}")
    console.print(
        f"variant: {variant} ({model.sampler}; by default {variant.default_steps} steps,"
        f" guidance {variant.default_guidance:g})"
    )
    console.print(f"sizes:   {model.allowed_sizes}")
    console.print(
        f"device:  {devices.kind.name} {','.join(str(i) for i in devices.ids)}"
        f" ({devices.reason}), {devices.kind.dtype}"
    )
    for doubt in (*devices.kind.complaints(devices.ids), *devices.kind.doubts(os.environ)):
        console.print(f"         {doubt}")
    console.print(_component_table(serving))
    replicas = serving.settings.replicas
    each = f" in each of {replicas} replicas" if replicas > 1 else ""
    console.print(
        f"layout:  {serving.layout}{each}, on {len(serving.used)} of {len(devices.ids)} devices"
    )
    if serving.project is None:
        _print_ranks(console, serving)
    else:
        console.print(f"project: {serving.project}, which decides what it holds in memory")
    console.print("This can be served.")


def _component_table(serving: Serving) -> Table:
    table = Table("component", "class", "parameters", "memory, GB")
    total = 0
    for component in serving.model.components:
        size = component.parameters * serving.devices.kind.dtype_bytes
        total += size
        table.add_row(
            component.name, component.class_name, f"{component.parameters:,}", f"{size / _GB:.3f}"
        )
    table.add_row("together", "", "", f"{total / _GB:.3f}")
    return table


def _print_ranks(console: Console, serving: Serving) -> None:
    table = Table(
        *("rank", "transformer, GB", "beside it, GB", "prompts and work, GB", "in all, GB")
    )
    plan = serving.memory(serving.layout)
    for rank in plan:
        sizes = (rank.transformer, rank.beside, rank.prompts + rank.working, rank.total)
        table.add_row(str(rank.rank), *(f"{size / _GB:.2f}" for size in sizes))
    console.print(table)
    offloaded = [name for rank in plan for name in rank.offloaded]
    if offloaded:
        console.print(f"Offloaded to the host's memory between prompts: {', '.join(offloaded)}")
    if serving.room.device_bytes is None:
        console.print("How much memory a device has is not known here.")
    else:
        console.print(f"Of each device's memory {serving.room.usable / _GB:.1f} GB can be used.")
