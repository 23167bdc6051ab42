"""How a running service is, from the command line: all its machines and what they do."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table

from hidream_server.client import Client


def show_status(client: Client, as_json: bool) -> bool:
    """Print how the service and each of its worker groups is; say whether it is ready."""
    health, groups = client.health(), client.groups()
    if as_json:
        typer.echo(json.dumps({**health, "groups": groups}))
    else:
        console = Console(soft_wrap=True, highlight=False, markup=False)
        console.print(_summary(health))
        console.print(_table(groups))
    return bool(health["pipeline_ready"])


def _summary(health: dict[str, Any]) -> str:
    reason = f" ({health['reason']})" if health["reason"] else ""
    return (
        f"{health['model']['name']}: {health['status']}{reason},"
        f" {health['replicas_ready']} of {health['replicas']} worker groups ready,"
        f" {health['queue_length']} queued, {health['active_tasks']} running"
    )


def _table(groups: list[dict[str, Any]]) -> Table:
    names = ("machine", "model", "devices", "layout", "status")
    # Ids are to be copied: they are never broken, however narrow the terminal.
    tasks_on_hand = Column("tasks on hand", no_wrap=True)
    table = Table(*(Column(name, overflow="fold") for name in names), tasks_on_hand)
    for group in groups:
        wanted = group["wanted_layout"]
        layout = group["layout"] + (f" of {wanted}" if wanted != group["layout"] else "")
        devices = ",".join(str(number) for number in group["device_ids"])
        hidden = group["active_tasks"] - len(group["tasks"])
        tasks = [*group["tasks"], *([f"{hidden} of others"] if hidden else [])]
        table.add_row(
            group["machine"],
            group["model"],
            f"{group['device_type']} {devices}",
            layout,
            " ".join(filter(None, (group["status"], group["reason"]))),
            "\n".join(tasks),
        )
    return table
