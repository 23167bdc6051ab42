"""Which waiting task gets the next place on hand. The claim on the task table does the same in SQL.

Numbers only, no clock.
"""

from collections import Counter
from collections.abc import Collection
from math import inf

from hidream_server.scheduling.active_task import ActiveTask
from hidream_server.scheduling.policy import AGEING

#: One place of so many is kept for tasks that pass all on hand, or whose client has none there.
_KEPT = 4
#: Seconds by which a task with a deadline is due before all others: it must be on hand to pass
#: them in time.
_AHEAD_OF_ALL = 1e10


def due(arrived_s: float, alone_s: float, deadline_s: float | None) -> float:
    """Return a task's place in the queue: by arrival, short ones before long ones as on the ranks.

    Tasks with deadlines come first, by their deadlines.
    """
    if deadline_s is not None:
        return deadline_s - _AHEAD_OF_ALL
    return arrived_s + alone_s / AGEING


def open_places(places: int) -> int:
    """Return how many of the places are for any task."""
    return places - places // _KEPT


def next_place(
    waiting: Collection[ActiveTask], on_hand: Collection[ActiveTask], places: int
) -> ActiveTask | None:
    """Return the task that is taken on next, None if none of these may be."""
    if len(on_hand) >= places:
        return None
    of_client = Counter(task.client for task in on_hand)
    first = min((_due(task) for task in on_hand if task.deadline_s is None), default=inf)
    due_before = inf if len(on_hand) < open_places(places) else first
    return min(
        (task for task in waiting if _due(task) < due_before or not of_client[task.client]),
        key=lambda task: (of_client[task.client], _due(task), task.number),
        default=None,
    )


def _due(task: ActiveTask) -> float:
    return due(task.arrived_s, task.total_s, task.deadline_s)
