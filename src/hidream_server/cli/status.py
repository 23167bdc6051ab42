"""How a running service is, from the command line: all its machines and what they do."""

import json
from collections.abc import Iterator
from typing import Any

import typer

from hidream_server.client import Client


def show_status(client: Client, as_json: bool) -> bool:
    """Print how the service and each of its worker groups is; say whether it is ready."""
    health, groups = client.health(), client.groups()
    if as_json:
        typer.echo(json.dumps({**health, "groups": groups}))
    else:
        typer.echo(_summary(health))
        for group in groups:
            typer.echo("\n".join(_lines(group)))
    return bool(health["pipeline_ready"])


def _summary(health: dict[str, Any]) -> str:
    reason = f" ({health['reason']})" if health["reason"] else ""
    return (
        f"{health['model']['name']}: {health['status']}{reason},"
        f" {health['replicas_ready']} of {health['replicas']} worker groups ready,"
        f" {health['queue_length']} queued, {health['active_tasks']} running"
    )


def _lines(group: dict[str, Any]) -> Iterator[str]:
    """Yield how a group is, and the tasks it has on hand, each on a line to be copied from."""
    layout, wanted = group["layout"], group["wanted_layout"]
    devices = ",".join(str(number) for number in group["device_ids"])
    reason = f" ({group['reason']})" if group["reason"] else ""
    yield (
        f"{group['machine']}: {group['device_type']} {devices}, {layout}"
        f"{f' instead of {wanted}' if wanted != layout else ''}, {group['status']}{reason},"
        f" {group['model']}"
    )
    yield from (f"  {task_id}" for task_id in group["tasks"])
    if hidden := group["active_tasks"] - len(group["tasks"]):
        yield f"  {hidden} task(s) of others"
