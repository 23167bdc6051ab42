"""Says what would be served, or all that stands in the way: to people, or to programs as JSON."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from hidream_server.cli.diagnosis import Diagnosis, diagnose
from hidream_server.cli.serving import Serving
from hidream_server.model_directory.description import ModelDescription
from hidream_server.settings import Settings

_GB = 1e9


def run_doctor(settings: Settings, as_json: bool) -> bool:
    """Print what these settings serve, and what stands in the way; say whether they would."""
    diagnosis = diagnose(settings)
    if as_json:
        typer.echo(json.dumps(_as_json(diagnosis)))
    else:
        _print(Console(soft_wrap=True, highlight=False, markup=False), diagnosis)
    return diagnosis.servable


def _print(console: Console, diagnosis: Diagnosis) -> None:
    settings = diagnosis.settings
    if diagnosis.model is not None:
        _print_model(console, diagnosis.model)
    if diagnosis.serving is not None:
        _print_serving(console, diagnosis.serving)
    console.print(f"address: {settings.host} port {settings.port}")
    console.print(
        f"disk:    {diagnosis.free_bytes / 2**30:.1f} GiB free at {settings.data_dir.absolute()}"
    )
    for warning in diagnosis.warnings:
        console.print(f"warning: {warning}")
    for problem in diagnosis.problems:
        console.print(f"problem: {problem.message}")
    count = len(diagnosis.problems)
    what = "problem stands" if count == 1 else "problems stand"
    console.print(
        f"This cannot be served: {count} {what} in the way." if count else "This can be served."
    )


def _print_model(console: Console, model: ModelDescription) -> None:
    variant = model.variant
    console.print(f"model:   {model.path}{'  (embedded demo model)' if model.is_demo else ''}")
    console.print(f"llama:   {model.extra_path or model.path}")
    console.print(
        f"variant: {variant} ({model.sampler}; by default {variant.default_steps} steps,"
        f" guidance {variant.default_guidance:g})"
    )
    console.print(f"sizes:   {model.allowed_sizes}")


def _print_serving(console: Console, serving: Serving) -> None:
    devices = serving.devices
    console.print(
        f"device:  {devices.kind.name} {','.join(str(i) for i in devices.ids)}"
        f" ({devices.reason}), {devices.kind.dtype}"
    )
    if devices.kind.is_accelerator:
        console.print(f"driver:  {devices.kind.driver() or 'its version is not known here'}")
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


def _component_table(serving: Serving) -> Table:
    table = Table("component", "class", "parameters", "memory, GB")
    sizes = serving.component_bytes
    for component in serving.model.components:
        table.add_row(
            component.name,
            component.class_name,
            f"{component.parameters:,}",
            f"{sizes[component.name] / _GB:.3f}",
        )
    table.add_row("together", "", "", f"{sum(sizes.values()) / _GB:.3f}")
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


def _as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    settings, serving = diagnosis.settings, diagnosis.serving
    return {
        "servable": diagnosis.servable,
        "problems": [{"code": p.code, "message": p.message} for p in diagnosis.problems],
        "warnings": diagnosis.warnings,
        "host": settings.host,
        "port": settings.port,
        "data_dir": str(settings.data_dir.absolute()),
        "free_bytes": diagnosis.free_bytes,
        **({} if serving is None else _serving_json(serving)),
    }


def _serving_json(serving: Serving) -> dict[str, Any]:
    model, devices = serving.model, serving.devices
    return {
        "model": {
            "path": str(model.path),
            "llama": str(model.extra_path or model.path),
            "variant": model.variant,
            "sampler": model.sampler,
            "demo": model.is_demo,
            "component_bytes": serving.component_bytes,
        },
        "device": {
            "type": devices.kind.name,
            "ids": devices.ids,
            "reason": devices.reason,
            "dtype": devices.kind.dtype,
            "driver": devices.kind.driver(),
            "memory_bytes": serving.room.device_bytes,
        },
        "layout": str(serving.layout),
        "replicas": serving.settings.replicas,
        "rank_bytes": _rank_bytes(serving),
    }


def _rank_bytes(serving: Serving) -> list[int] | None:
    """Return what each rank of a group holds; None where a project decides that."""
    if serving.project is not None:
        return None
    return [rank.total for rank in serving.memory(serving.layout)]
