"""docs/metrics.md says what /metrics does."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import Metric

from hidream_server.metrics.task_metrics import NO_REASON, STAGES
from hidream_server.observer import PROMPT_EMBEDDINGS, STEP_OUTPUTS, EndReason

TEXT = (Path(__file__).parent.parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")


def rows(start: str) -> list[list[str]]:
    """Return the cells of the rows whose first cell begins with this."""
    lines = (line for line in TEXT.splitlines() if line.startswith(f"| {start}"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def quoted(text: str) -> set[str]:
    return set(re.findall("`([^`]+)`", text))


def test_the_table_is_what_is_exported(families: Mapping[str, Metric]):
    documented = {row[0].strip("`"): (row[1], quoted(row[2]), row[3]) for row in rows("`hidream_")}
    exported = {
        name + "_total" * (metric.type == "counter"): (
            metric.type,
            {label for sample in metric.samples for label in sample.labels} - {"le"},
            metric.documentation,
        )
        for name, metric in families.items()
        if name.startswith("hidream_")
    }
    assert documented == exported


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("`reason`", {NO_REASON, *EndReason}),
        ("`stage`", set(STAGES)),
        ("`cache`", {PROMPT_EMBEDDINGS, STEP_OUTPUTS}),
        ("`status`", {"completed", "failed", "cancelled", "refused"}),
    ],
)
def test_the_values_of_labels_are_the_codes(label: str, values: set[str]):
    [row] = [row for row in rows(label) if not row[0].startswith("`hidream")]
    assert values <= quoted(row[1])


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (Path(__file__).parent.parent.parent / "docs" / target).exists(), target
