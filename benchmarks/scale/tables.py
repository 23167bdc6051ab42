"""What the parts report: tables, printed for people and written as JSON for programs."""

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

Cell = str | int | float


@dataclass
class Report:
    """A table with the load of the machine while it was made."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)
    load: float = 0.0

    def add(self, *cells: Cell) -> None:
        self.rows.append(list(cells))
        self.load = os.getloadavg()[0]


def show(report: Report) -> None:
    """Print a table as the documentation shows it."""
    table = Table(*report.columns, title=f"{report.title} (load {report.load:.1f})")
    table.box = box.MARKDOWN
    for row in report.rows:
        table.add_row(*[_text(cell) for cell in row])
    Console(soft_wrap=True, highlight=False, width=200).print(table)


def write(reports: Sequence[Report], path: Path) -> None:
    """Write tables as JSON."""
    path.write_text(json.dumps([asdict(report) for report in reports], indent=1) + "\n")


def p50(seconds: Sequence[float]) -> float:
    """Return the median in milliseconds."""
    return 1000 * statistics.median(seconds) if seconds else 0.0


def p10(seconds: Sequence[float]) -> float:
    """Return what nine of ten exceed, in milliseconds: about what it takes if nothing else runs."""
    return 1000 * sorted(seconds)[len(seconds) // 10]


def p99(seconds: Sequence[float]) -> float:
    """Return what one of a hundred exceeds, in milliseconds; the most of fewer."""
    if len(seconds) < 100:
        return 1000 * max(seconds, default=0.0)
    return 1000 * statistics.quantiles(seconds, n=100)[98]


def _text(cell: Cell) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
