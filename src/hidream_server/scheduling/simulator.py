"""A server that only counts seconds: the same tasks under one policy and another, step by step."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from hidream_server.scheduling.active_task import ActiveTask
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.places import next_place
from hidream_server.scheduling.policy import charge, next_step
from hidream_server.scheduling.shares import FairShares
from hidream_server.scheduling.widths import Widths

#: Tasks that a worker group has on hand.
PLACES = 8

#: Which of the waiting tasks is taken on next beside those on hand, if there is a place for one.
TakeOn = Callable[[Collection[ActiveTask], Collection[ActiveTask], int], ActiveTask | None]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which tasks are on hand, and how wide their forwards are."""

    name: str
    take_on: TakeOn
    places: int
    widths: Widths


@dataclass(frozen=True, slots=True)
class Outcome:
    """What users got; times in seconds from arrival to end."""

    mean_s: float
    p50_s: float
    p99_s: float
    #: Share of the tasks that took at most twice as long as by themselves.
    within_twice: float
    tasks_per_minute: float


def first_come(
    waiting: Collection[ActiveTask], on_hand: Collection[ActiveTask], places: int
) -> ActiveTask | None:
    if len(on_hand) >= places:
        return None
    return min(waiting, key=lambda task: task.number, default=None)


def shortest(
    waiting: Collection[ActiveTask], on_hand: Collection[ActiveTask], places: int
) -> ActiveTask | None:
    if len(on_hand) >= places:
        return None
    return min(waiting, key=lambda task: (task.total_s, task.number), default=None)


def policies(widths: Widths, places: int = PLACES) -> list[Policy]:
    """Return the policies to compare, ours last. With one place no task is interrupted."""
    alone = Widths({}, most=1)
    return [
        Policy("first come", first_come, 1, alone),
        Policy("shortest first", shortest, 1, alone),
        Policy("ours, unshared", next_place, places, alone),
        Policy("ours", next_place, places, widths),
    ]


def serve(tasks: Sequence[ActiveTask], policy: Policy, pace: Pace) -> dict[int, float]:
    """Return when each task ends, by its number; they come when they count as submitted."""
    coming = sorted(tasks, key=lambda task: (task.arrived_s, task.number), reverse=True)
    waiting: list[ActiveTask] = []
    on_hand: dict[int, ActiveTask] = {}
    shares, now, ends = FairShares(), 0.0, dict[int, float]()
    while coming or on_hand:
        if not on_hand:
            now = max(now, coming[-1].arrived_s)
        while coming and coming[-1].arrived_s <= now:
            waiting.append(coming.pop())
        _take_on(waiting, on_hand, policy)
        now += _step(on_hand, policy, pace, shares, now)
        for number in [number for number, task in on_hand.items() if not task.images_left]:
            del on_hand[number]
            ends[number] = now
        _take_on(waiting, on_hand, policy)
    return ends


def outcome(tasks: Sequence[ActiveTask], ends: Mapping[int, float]) -> Outcome:
    taken = {task.number: ends[task.number] - task.arrived_s for task in tasks}
    in_order = sorted(taken.values())
    elapsed_s = max(ends.values()) - min(task.arrived_s for task in tasks)
    return Outcome(
        mean_s=sum(in_order) / len(in_order),
        p50_s=_quantile(in_order, 0.5),
        p99_s=_quantile(in_order, 0.99),
        within_twice=sum(taken[t.number] <= 2 * t.total_s for t in tasks) / len(tasks),
        tasks_per_minute=60 * len(tasks) / elapsed_s,
    )


def _take_on(waiting: list[ActiveTask], on_hand: dict[int, ActiveTask], policy: Policy) -> None:
    while task := policy.take_on(waiting, on_hand.values(), policy.places):
        waiting.remove(task)
        on_hand[task.number] = task


def _step(
    on_hand: dict[int, ActiveTask], policy: Policy, pace: Pace, shares: FairShares, now: float
) -> float:
    """Take one step; return its seconds."""
    step = next_step(on_hand.values(), policy.widths, shares, now)
    shape = on_hand[step[0].number].shape
    seconds = pace.step_s(shape, sum(share.rows for share in step))
    charge(step, shares, seconds)
    for share in step:
        on_hand[share.number] = on_hand[share.number].stepped(share.images)
    return seconds


def _quantile(in_order: Sequence[float], part: float) -> float:
    return in_order[ceil(part * len(in_order)) - 1]
