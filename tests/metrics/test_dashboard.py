"""What is deployed beside the server asks for what the server says, and for nothing else."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "hidream.json").read_text(encoding="utf-8"))
#: Words of PromQL that are no metrics, and no functions, which are followed by a bracket.
WORDS = {"or", "and", "unless", "bool", "offset", "inf", "nan"}
#: Labels that Prometheus gives, to all series or to a histogram's.
GIVEN = {"instance", "job", "le"}


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


EXPRESSIONS = [target["expr"] for panel in panels() for target in panel["targets"]]


def parts(expression: str) -> tuple[set[str], set[str]]:
    """Return the metrics and the labels that a PromQL expression names."""
    labels = set()
    for group in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression):
        labels |= {name.strip() for name in group.split(",")}
    for selector in re.findall(r"\{([^}]*)\}", expression):
        labels |= set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector))
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", bare)
    names = re.findall(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()", bare)
    return set(names) - WORDS, labels


@pytest.fixture(scope="module")
def exported(families: Mapping[str, Metric]) -> dict[str, set[str]]:
    """The labels of each series, by its name."""
    found: dict[str, set[str]] = {}
    for metric in families.values():
        for sample in metric.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_names_only_what_the_server_exports(
    expression: str, exported: Mapping[str, set[str]]
):
    metrics, labels = parts(expression)
    assert metrics
    for metric in metrics:
        assert metric in exported
    assert labels <= GIVEN.union(*(exported[metric] for metric in metrics))
    assert 'instance=~"$instance"' in expression


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_counters_are_read_as_rates_and_in_balanced_brackets(expression: str):
    for counter in re.findall(r"\w+_(?:total|bucket|sum|count)\{", expression):
        assert re.search(rf"(?:rate|increase)\({re.escape(counter)}", expression)
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_every_metric_of_ours_is_shown(exported: Mapping[str, set[str]]):
    shown = set().union(*(parts(expression)[0] for expression in EXPRESSIONS))
    ours = {re.sub("_(bucket|sum|count)$", "", name) for name in exported if "hidream" in name}
    assert ours == {re.sub("_(bucket|sum|count)$", "", name) for name in shown if "hidream" in name}


def test_legends_name_labels_that_the_expression_leaves(exported: Mapping[str, set[str]]):
    for panel in panels():
        for target in panel["targets"]:
            wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = [group.split(",") for group in re.findall(r"by \(([^)]*)\)", target["expr"])]
            if kept:
                left = {name.strip() for name in kept[0]}
            else:
                left = GIVEN.union(*(exported[name] for name in parts(target["expr"])[0]))
            assert wanted <= left, panel["title"]


def test_the_rows_and_panels_lie_side_by_side():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Service", "Queue", "Work", "Resources", "HTTP"]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_example_for_prometheus_scrapes_our_route_with_a_key():
    text = (ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8")
    [job] = yaml.safe_load(text)["scrape_configs"]
    assert job["authorization"]["type"] == "Bearer"
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert job["static_configs"] == [{"targets": ["localhost:8088"]}]
