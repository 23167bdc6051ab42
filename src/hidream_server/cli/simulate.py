"""Says what users would get under one policy and another; needs no model and no device."""

import re

import typer
from rich.console import Console
from rich.table import Table

from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.simulator import outcome, policies, serve
from hidream_server.scheduling.widths import WIDEST, Widths
from hidream_server.scheduling.workload import MIX, PROFILE, TOKEN_SIDE, Kind, draw

_KIND = re.compile(r"(\d+)x(\d+)/([1-9]\d*)(g?)(?:\*([1-9]\d*))?")


def run_simulation(load: float, tasks: int, clients: int, seed: int, mix: str | None) -> None:
    """Print a table, one line a policy; raise BadParameter if the mix cannot be understood."""
    pace, widths = Pace(PROFILE), Widths(PROFILE, most=WIDEST)
    drawn = draw(parse_mix(mix) if mix else MIX, pace, load, tasks, clients, seed)
    table = Table("policy", "mean (s)", "p50 (s)", "p99 (s)", "within 2x alone", "tasks/min")
    for policy in policies(widths):
        result = outcome(drawn, serve(drawn, policy, pace))
        table.add_row(
            policy.name,
            f"{result.mean_s:.1f}",
            f"{result.p50_s:.1f}",
            f"{result.p99_s:.1f}",
            f"{100 * result.within_twice:.1f} %",
            f"{result.tasks_per_minute:.2f}",
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print("Times from arrival to end, with assumed step times of one card, not measured.")


def parse_mix(text: str) -> list[Kind]:
    """Read kinds of task: 1024x768/50g*4 is four guided images of that size in 50 steps each."""
    return [_parse_kind(part.strip()) for part in text.split(",")]


def _parse_kind(text: str) -> Kind:
    match = _KIND.fullmatch(text)
    if match is None or min(int(match[1]), int(match[2])) < TOKEN_SIDE:
        raise typer.BadParameter(f"{text!r} is not like 1024x768/50g*4", param_hint="--mix")
    width, height, steps, guided, images = match.groups()
    return Kind(int(width), int(height), int(steps), bool(guided), int(images or 1))
