"""The harness of docs/scaling.md at its smallest: that it measures something, not how much."""

from dataclasses import replace

import pytest

from benchmarks.scale.claims import VERBS, claims
from benchmarks.scale.crowd import crowd
from benchmarks.scale.queue_lengths import queue_lengths
from benchmarks.scale.simulate import Costs, carried, demand, simulate, uses
from benchmarks.scale.streams import streams
from benchmarks.scale.verbs import verbs
from tests.postgresql import Postgresql

_CALLS = ("submit", "claim", "claim in vain", "beat", "complete", "look", "status", "events")
COSTS = Costs(
    cpu_ms=dict.fromkeys((*_CALLS, "membership"), 1.0),
    wal_kib=dict.fromkeys((*_CALLS, "membership"), 1.0),
    flush_ms=2.0,
    submit_ms=5.0,
    member_us=1.0,
    running_us=1.0,
    cores=16,
    max_connections=100,
)


def test_each_verb_has_a_cost(postgresql: Postgresql) -> None:
    [report] = verbs(postgresql, calls=2)
    names, statements = [row[0] for row in report.rows], [row[4] for row in report.rows]
    assert names == [*_CALLS, "membership"]
    assert all(statements)


def test_groups_that_only_ask_complete_tasks(postgresql: Postgresql) -> None:
    rates, latencies, waits = claims(postgresql, [2], rounds=1, seconds=0.5, queued=8, beats=1)
    assert rates.rows[0][:1] == [2]
    assert rates.rows[0][1] > 0
    assert len(latencies.rows[0]) == 1 + len(VERBS)
    assert waits.rows


def test_both_ways_to_hear_of_a_submission_are_measured(postgresql: Postgresql) -> None:
    [report] = crowd(postgresql, [4], pairs=1, seconds=1.0, work_s=0.5)
    assert [row[:2] for row in report.rows] == [[4, "all"], [4, "in turns"]]
    assert all(row[2] >= 1 for row in report.rows), "each task was claimed"


def test_streams_hear_of_what_is_done(postgresql: Postgresql) -> None:
    [report] = streams(postgresql, servers=1, groups=1, rounds=1, seconds=0.5, beats=1)
    nobody, one = report.rows
    assert nobody[5] == 0
    assert one[5] > 0


def test_plans_of_a_claim_are_explained(postgresql: Postgresql) -> None:
    times, plans = queue_lengths(postgresql, [(20, 5)], calls=2)
    assert times.rows[0][:2] == [20, 5]
    assert "tasks" in plans.rows[0][-1]


def test_what_is_carried_is_just_enough() -> None:
    for resource, groups in carried("Dev", COSTS).items():
        assert uses(demand(groups, "Dev"), COSTS)[resource] <= 0.7
        assert uses(demand(groups + 1, "Dev"), COSTS)[resource] > 0.7


@pytest.mark.parametrize("cores", [16, 32])
def test_the_processor_is_full_sooner_if_all_ask(cores: int) -> None:
    costs = replace(COSTS, cores=cores)
    at_once = carried("Fast", costs, turns=False)["processor"]
    assert at_once < carried("Fast", costs)["processor"]


def test_a_simulation_has_a_line_for_each_work_and_number() -> None:
    _locks, most, growth = simulate(COSTS, [10, 100])
    assert len(most.rows) == 3
    assert len(growth.rows) == 6
