"""Says what would be served from a model directory, or everything that stands in the way."""

from rich.console import Console
from rich.table import Table

from hidream_server.cli.plan import Plan, make_plan
from hidream_server.errors import ModelDirectoryError
from hidream_server.settings import Settings

_GIB = 2**30


def run_doctor(settings: Settings) -> None:
    """Print the plan for these settings; raise ConfigurationError if there can be none."""
    console = Console(soft_wrap=True, highlight=False)
    try:
        plan = make_plan(settings)
    except ModelDirectoryError as error:
        for finding in error.findings:
            console.print(f"problem: {finding}", markup=False)
        raise
    _print_plan(console, plan)


def _print_plan(console: Console, plan: Plan) -> None:
    model, devices = plan.model, plan.devices
    variant = model.variant
    console.print(f"model:   {model.path}{'  (embedded demo model)' if model.is_demo else ''}")
    console.print(f"llama:   {model.extra_path or model.path}")
    console.print(
        f"variant: {variant} ({model.sampler}; by default {variant.default_steps} steps,"
        f" guidance {variant.default_guidance:g})"
    )
    console.print(f"sizes:   {model.size_problem(0, 0)}")
    console.print(
        f"device:  {devices.kind.name} {','.join(str(i) for i in devices.ids)}"
        f" ({devices.reason}), {devices.kind.dtype}"
    )
    console.print(_memory_table(plan))
    console.print("Nothing stands in the way of serving this.")


def _memory_table(plan: Plan) -> Table:
    table = Table("component", "class", "parameters", "memory (GiB)")
    total = 0
    for component in plan.model.components:
        size = component.parameters * plan.devices.kind.dtype_bytes
        total += size
        table.add_row(
            component.name, component.class_name, f"{component.parameters:,}", f"{size / _GIB:.3f}"
        )
    table.add_row("together", "", "", f"{total / _GIB:.3f}")
    return table
