"""Whose step runs next: shortest remaining work first, with ageing. Pure numbers, no clock.

A step edge is a good place to change one's mind: the state of a task is a few megabytes of latents.
"""

from collections.abc import Iterable
from dataclasses import dataclass

#: A second of age counts as much as so many seconds of remaining work.
AGEING = 1.0


@dataclass(frozen=True, slots=True)
class ActiveTask:
    """A task that has steps left."""

    #: Its place in the order of arrival.
    number: int
    #: When it was submitted, in seconds on whatever clock is the same for all.
    arrived_s: float
    #: How long its remaining steps would take by themselves.
    remaining_s: float


def next_task(active: Iterable[ActiveTask]) -> ActiveTask | None:
    """Return the task whose step runs next, None if there is none.

    All tasks age alike, so only when they came matters: a task with R seconds of work left is
    passed by no task that comes later than R / AGEING after it. It is finished, at the latest, when
    it and all work that came before that time are done; nobody starves.

    Source: Schrage, "A proof of the optimality of the shortest remaining processing time
    discipline", Operations Research 16(3), 1968; the ageing is ours.
    """
    return min(
        active,
        key=lambda task: (task.remaining_s + AGEING * task.arrived_s, task.number),
        default=None,
    )
