"""What measured costs mean for many cards: how busy each resource is, and which is full first.

Arithmetic: so many of each thing a second, times what one costs. How long pictures take is assumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.scale.tables import Report
from hidream_server.engine.membership import SAY_S

#: Seconds of a picture and its steps, as goals on one card; nobody has measured them.
WORK = {"Full": (13.5, 50), "Dev": (3.8, 28), "Fast": (2.2, 16)}
#: Progress is written down no more often, in seconds.
_BEAT_S = 0.25
#: Cards of a machine, each a group of its own, in one worker process; cards for which there is one
#: server; connections of a worker's process and of a server's, as they were seen.
_GROUPS_PER_WORKER, _GROUPS_PER_SERVER = 8, 64
_WORKER_CONNECTIONS, _SERVER_CONNECTIONS = 7, 8
#: Asks in vain of all groups together, and the least of each, a second.
_TURNS, _LEAST_ASKS = 100.0, 0.2
#: Questions of clients about the state of a task, and reads of streams of one server, a second.
_POLLS_PER_TASK, _STREAM_READS = 0.2, 20.0
#: Tasks that a busy group has on hand: its open places.
_ON_HAND = 6
#: Share of each resource that is counted on.
_ENOUGH = 0.7


@dataclass(frozen=True)
class Costs:
    """Milliseconds of a core of PostgreSQL's for one of each; and of a commit that notifies."""

    cpu_ms: Mapping[str, float]
    wal_kib: Mapping[str, float]
    #: For so long others that notify wait for it.
    flush_ms: float
    #: For so long other submissions wait for it.
    submit_ms: float
    #: What membership takes more with each group, and a claim with each running task.
    member_us: float
    running_us: float
    cores: int
    max_connections: int


@dataclass(frozen=True)
class Demand:
    """What so many groups ask for, in a second."""

    groups: int
    tasks: float
    calls: Mapping[str, float]
    history_rows: float
    notifications: float
    heard: float
    connections: int


def demand(groups: int, work: str, turns: bool = True) -> Demand:
    """Return what groups ask for that are all busy; without `turns`, if all ask at each task."""
    picture_s, steps = WORK[work]
    tasks = groups / picture_s
    workers = -(-groups // _GROUPS_PER_WORKER)
    servers = -(-groups // _GROUPS_PER_SERVER)
    on_hand = _ON_HAND * groups
    in_vain = max(min(_TURNS, groups * 1.0), groups * _LEAST_ASKS) if turns else groups * tasks
    calls = {
        "submit": tasks,
        "claim": tasks,
        "claim in vain": in_vain,
        "beat": groups / max(_BEAT_S, picture_s / steps),
        "complete": tasks,
        "status": _POLLS_PER_TASK * on_hand,
        "look": servers * 1.0,
        "events": servers * _STREAM_READS,
        "membership": (workers + servers) / SAY_S,
    }
    notifications = 3 * tasks
    return Demand(
        groups,
        tasks,
        calls,
        tasks * (steps + 3),
        notifications,
        notifications * (workers + servers),
        workers * _WORKER_CONNECTIONS + servers * _SERVER_CONNECTIONS,
    )


def uses(wanted: Demand, costs: Costs) -> dict[str, float]:
    """Return how much of each resource is used; above 1 it is not enough."""
    busy_ms = sum(n * costs.cpu_ms[verb] for verb, n in wanted.calls.items())
    return {
        "processor": (busy_ms + sum(growing_ms(wanted, costs))) / 1000 / costs.cores,
        "notify lock": wanted.notifications * costs.flush_ms / 1000,
        "submit lock": wanted.tasks * costs.submit_ms / 1000,
        "connections": wanted.connections / costs.max_connections,
    }


def growing_ms(wanted: Demand, costs: Costs) -> tuple[float, float]:
    """Return what membership, and what claims take more because there are so many groups."""
    claims = wanted.calls["claim"] + wanted.calls["claim in vain"]
    return (
        wanted.calls["membership"] * wanted.groups * costs.member_us / 1000,
        claims * wanted.groups * _ON_HAND * costs.running_us / 1000,
    )


def carried(work: str, costs: Costs, turns: bool = True) -> dict[str, int]:
    """Return how many groups each resource is enough for, at 70 % of it."""
    found = {}
    for resource in uses(demand(1, work), costs):
        low, high = 0, 1
        while high < 10**6 and uses(demand(high, work, turns), costs)[resource] <= _ENOUGH:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            fits = uses(demand(middle, work, turns), costs)[resource] <= _ENOUGH
            low, high = (middle, high) if fits else (low, middle)
        found[resource] = low
    return found


def simulate(costs: Costs, groups: Sequence[int]) -> list[Report]:
    """Return what it is calculated from, what is carried, and how it grows."""
    most = Report(
        f"Groups that one PostgreSQL with {costs.cores} cores carries, each resource at 70 %",
        ("work", "processor", "the same, all ask", "notify lock", "submit lock",
         f"{costs.max_connections} connections"),
    )  # fmt: skip
    growth = Report(
        f"On the way: use of each resource ({costs.cores} cores)",
        ("groups", "work", "tasks/s", "beats/s", "processor", "of it membership",
         "of it running tasks", "notify lock", "submit lock", "history rows/s", "WAL MB/s",
         "heard/s", "connections"),
    )  # fmt: skip
    for work in WORK:
        fits = carried(work, costs)
        most.add(
            work,
            fits["processor"],
            carried(work, costs, turns=False)["processor"],
            fits["notify lock"],
            fits["submit lock"],
            fits["connections"],
        )
        for count in groups:
            growth.add(*_line(count, work, costs))
    locks = Report("What the locks are held for, ms", ("commit that notifies", "submission"))
    locks.add(costs.flush_ms, costs.submit_ms)
    return [locks, most, growth]


def _line(groups: int, work: str, costs: Costs) -> list[str | int | float]:
    wanted = demand(groups, work)
    used = uses(wanted, costs)
    members_ms, claims_ms = growing_ms(wanted, costs)
    wal_kib = sum(n * costs.wal_kib[verb] for verb, n in wanted.calls.items())
    return [
        groups, work, wanted.tasks, wanted.calls["beat"], f"{100 * used['processor']:.0f} %",
        f"{100 * members_ms / 1000 / costs.cores:.0f} %",
        f"{100 * claims_ms / 1000 / costs.cores:.0f} %", f"{100 * used['notify lock']:.0f} %",
        f"{100 * used['submit lock']:.0f} %", wanted.history_rows, wal_kib / 1024, wanted.heard,
        wanted.connections,
    ]  # fmt: skip
