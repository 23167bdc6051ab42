"""Tasks a minute against worker groups that have nothing to do but to ask the database."""

import statistics
from collections.abc import Sequence

from benchmarks.scale.claimers import Claimers, Seconds
from benchmarks.scale.filling import filled
from benchmarks.scale.tables import Report, p50, p99
from benchmarks.scale.watch import Watch
from tests.postgresql import Postgresql

VERBS = ("claim", "beat", "complete", "submit")


def claims(
    server: Postgresql, groups: Sequence[int], rounds: int, seconds: float, queued: int, beats: int
) -> list[Report]:
    """Measure each number of groups in turn, as often as there are rounds."""
    found: dict[int, list[tuple[Seconds, float, Watch]]] = {count: [] for count in groups}
    for turn in range(rounds):
        for count in groups if turn % 2 == 0 else reversed(groups):
            found[count].append(_one(server, count, seconds, queued, beats))
    return [_rates(found, seconds), _latencies(found), _waits(found)]


def _one(
    server: Postgresql, groups: int, seconds: float, queued: int, beats: int
) -> tuple[Seconds, float, Watch]:
    watch = Watch(server, filled(server, queued))
    claimers = Claimers(watch.url, groups, beats, seconds)
    with watch:
        return *claimers.run(), watch


def _rates(found: dict[int, list[tuple[Seconds, float, Watch]]], seconds: float) -> Report:
    report = Report(
        "Claim, beat, complete, submit, and no work between",
        (
            "groups", "tasks/min", "from", "to", "over 1 group", "PostgreSQL ms of a core/task",
            "clients ms/task", "rows read/task", "rows written/task", "WAL KiB/task", "connections",
        ),
    )  # fmt: skip
    first: float | None = None
    for groups, runs in found.items():
        rates = [60 * len(verbs["complete"]) / seconds for verbs, _, _ in runs]
        tasks = sum(len(verbs["complete"]) for verbs, _, _ in runs) or 1
        rate = statistics.median(rates)
        first = first or rate
        watches = [watch for _, _, watch in runs]
        report.add(
            groups,
            rate,
            min(rates),
            max(rates),
            rate / first if first else 0.0,
            1000 * sum(watch.cpu_s for watch in watches) / tasks,
            1000 * sum(cpu_s for _, cpu_s, _ in runs) / tasks,
            sum(watch.rows_read for watch in watches) / tasks,
            sum(watch.rows_written for watch in watches) / tasks,
            sum(watch.wal_bytes for watch in watches) / 1024 / tasks,
            max(watch.connections for watch in watches),
        )
    return report


def _latencies(found: dict[int, list[tuple[Seconds, float, Watch]]]) -> Report:
    columns = [f"{verb} p50 / p99 ms" for verb in VERBS]
    report = Report("How long each verb takes its caller", ("groups", *columns))
    for groups, runs in found.items():
        cells = []
        for verb in VERBS:
            each = [s for verbs, _, _ in runs for s in verbs.get(verb, ())]
            cells.append(f"{p50(each):.1f} / {p99(each):.1f}")
        report.add(groups, *cells)
    return report


def _waits(found: dict[int, list[tuple[Seconds, float, Watch]]]) -> Report:
    report = Report(
        "What busy connections were seen at",
        ("groups", "busy at once", "at", "locks waited for at once"),
    )
    for groups, runs in found.items():
        total = Watch(runs[0][2].server, "")
        for _, _, watch in runs:
            total.waits += watch.waits
            total.looks += watch.looks
        locks = {what: n for what, n in total.waits.items() if what.startswith("lock ")}
        busy = sum(total.waits.values()) - sum(locks.values())
        looks = total.looks or 1
        waited = ", ".join(f"{what[5:]} {n / looks:.2f}" for what, n in locks.items())
        report.add(groups, busy / looks, total.mostly(), waited or "none")
    return report
