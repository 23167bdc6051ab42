"""Says what would be served from a model directory, or everything that stands in the way."""

from rich.console import Console
from rich.table import Table

from hidream_server.cli.serving import Serving, decide
from hidream_server.settings import Settings

_GIB = 2**30


def run_doctor(settings: Settings) -> None:
    """Print what these settings serve; raise ConfigurationError, with all findings, if nothing."""
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
    console.print(_memory_table(serving))
    console.print("This can be served.")


def _memory_table(serving: Serving) -> Table:
    table = Table("component", "class", "parameters", "memory (GiB)")
    total = 0
    for component in serving.model.components:
        size = component.parameters * serving.devices.kind.dtype_bytes
        total += size
        table.add_row(
            component.name, component.class_name, f"{component.parameters:,}", f"{size / _GIB:.3f}"
        )
    table.add_row("together", "", "", f"{total / _GIB:.3f}")
    return table
