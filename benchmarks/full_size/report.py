"""What was found, and what was not: as tables, and as JSON with every sample."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantity of one thing."""

    part: str
    name: str
    what: str
    unit: str
    samples: list[float]

    @property
    def text(self) -> str:
        """The median, and how far the samples lie apart."""
        middle = _short(statistics.median(self.samples))
        if len(self.samples) == 1:
            return middle
        return f"{middle} ({_short(min(self.samples))} to {_short(max(self.samples))})"


@dataclass(slots=True)
class Report:
    """Grows while parts are measured."""

    #: Machine, versions, commit, options.
    about: Mapping[str, object]
    rows: list[Row] = field(default_factory=list)
    #: What must be known of a thing to read its numbers, by part and name.
    notes: dict[str, str] = field(default_factory=dict)
    #: What was not measured, and why.
    missing: dict[str, str] = field(default_factory=dict)
    #: What went wrong, among those.
    failed: list[str] = field(default_factory=list)

    def add(
        self, part: str, name: str, what: str, unit: str, samples: Sequence[float] | float
    ) -> None:
        values = [float(samples)] if isinstance(samples, (int, float)) else list(samples)
        row = Row(part=part, name=name, what=what, unit=unit, samples=values)
        self.rows.append(row)

    def add_times(self, part: str, name: str, what: str, seconds: Sequence[float]) -> None:
        self.add(part, name, what, "ms", [1000 * each for each in seconds])

    def note(self, part: str, name: str, text: str) -> None:
        self.notes[f"{part}: {name}"] = text

    def leave_out(self, what: str, why: str) -> None:
        self.missing[what] = why

    def fail(self, what: str, why: str) -> None:
        self.leave_out(what, why)
        self.failed.append(what)

    def write(self, path: Path) -> None:
        """Write all of it, or leave what was there."""
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        new.replace(path)

    def show(self, console: Console) -> None:
        for part in dict.fromkeys(row.part for row in self.rows):
            console.print(self._table(part))
        for what, text in self.notes.items():
            console.print(f"{what}: {text}.")
        for what, why in self.missing.items():
            console.print(f"not measured: {what}: {why}.")
        for name, value in self.about.items():
            console.print(f"{name}: {value}")

    def _table(self, part: str) -> Table:
        """One column for each thing, one line for each quantity."""
        rows = [row for row in self.rows if row.part == part]
        names = dict.fromkeys(row.name for row in rows)
        table = Table("", *names, title=part, title_justify="left")
        for what, unit in dict.fromkeys((row.what, row.unit) for row in rows):
            cells = {row.name: row.text for row in rows if (row.what, row.unit) == (what, unit)}
            head = f"{what} ({unit})" if unit else what
            table.add_row(head, *(cells.get(name, "") for name in names))
        return table


def _short(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
