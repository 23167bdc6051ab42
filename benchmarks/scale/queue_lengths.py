"""The same verbs on long queues and with many running; and how PostgreSQL finds what is next."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from benchmarks.scale.tables import Report, p50, p99
from benchmarks.scale.verbs import Bench
from hidream_server.store.database import Database
from tests.postgresql import Postgresql

_VERBS = ("claim", "claim in vain", "submit", "look", "beat")


def queue_lengths(
    server: Postgresql, shapes: Sequence[tuple[int, int]], calls: int
) -> list[Report]:
    """Measure each (queued, running)."""
    times = Report(
        "p50 / p99 ms of one caller, and PostgreSQL's ms of a core",
        ("queued", "running", *_VERBS),
    )
    plans = Report(
        "EXPLAIN (ANALYZE, BUFFERS) of one claim",
        ("queued", "running", "ms", "planning ms", "buffers", "rows", "nodes"),
    )
    for queued, running in shapes:
        bench = Bench(server, queued, running)
        cells = []
        for verb in _VERBS:
            cost = bench.cost(verb, calls)
            cells.append(f"{p50(cost.seconds):.1f} / {p99(cost.seconds):.1f}; {cost.cpu_ms:.1f}")
        times.add(queued, running, *cells)
        for statement, parameters in claim_statements(bench):
            plans.add(queued, running, *explain(bench.database, statement, parameters))
        bench.close()
    return [times, plans]


def claim_statements(bench: Bench) -> list[tuple[str, Any]]:
    """Return the statements of a claim that look through the queue, as they are sent."""
    with _sent(bench.database) as statements:
        bench.queue.claim("mine", 1)
    return [(sql, values) for sql, values in statements if "due" in sql and "UPDATE" in sql]


def explain(
    database: Database, statement: str, parameters: Any
) -> tuple[float, float, int, int, str]:
    """Run a statement, undo it, and return what PostgreSQL says of it."""
    with database.engine.connect() as connection:
        asked = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        found = connection.exec_driver_sql(asked, parameters).scalar_one()[0]
        connection.rollback()
    plan, nodes = found["Plan"], []
    rows = _walk(plan, nodes)
    buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    jit = " with JIT" if "JIT" in found else ""
    return found["Execution Time"], found["Planning Time"], buffers, rows, "; ".join(nodes) + jit


def _walk(plan: dict[str, Any], nodes: list[str]) -> int:
    """List the nodes of a plan that touch rows; return how many the largest gave."""
    if "Relation Name" in plan or plan["Node Type"] in ("Sort", "Incremental Sort"):
        where = plan.get("Index Name") or plan.get("Relation Name", "")
        name = f"{plan['Node Type']} {where}".strip()
        nodes.append(f"{name} ({int(plan['Actual Rows'] * plan['Actual Loops'])})")
    below = [_walk(each, nodes) for each in plan.get("Plans", ())]
    return max([int(plan["Actual Rows"] * plan["Actual Loops"]), *below])


@contextmanager
def _sent(database: Database) -> Iterator[list[tuple[str, Any]]]:
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, sql: str, values: Any, *_: Any) -> None:
        statements.append((sql, values))

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)
