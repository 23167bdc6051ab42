"""Which deadlines can be met, and until when others may go first; numbers only, no clock."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf

from hidream_server.scheduling.active_task import ActiveTask

#: Step times are known up to this part of a task's time: so much earlier its deadline leads, and so
#: much too late it is not given up yet.
_DOUBT = 0.05


def promised(tasks: Iterable[ActiveTask], now: float) -> list[ActiveTask]:
    """Return the tasks whose deadlines can all be met, the earliest deadline first.

    Where not all can, who came first is kept: a promise is not broken for a later one.
    """
    kept: list[ActiveTask] = []
    with_deadline = [task for task in tasks if task.deadline_s is not None]
    for task in sorted(with_deadline, key=lambda task: task.number):
        trial = sorted([*kept, task], key=lambda task: (_deadline_s(task), task.number))
        if _is_harmless(task, trial, now):
            kept = trial
    return kept


def latest_start(promised: Sequence[ActiveTask]) -> float:
    """Return when they must begin, one after the other, for all to be in time."""
    work = accumulate(task.remaining_s + _DOUBT * task.total_s for task in promised)
    return min((_deadline_s(task) - s for task, s in zip(promised, work, strict=True)), default=inf)


def _is_harmless(late_comer: ActiveTask, line: Sequence[ActiveTask], now: float) -> bool:
    """Whether it and those behind it in the line are in time, one after the other."""
    end, place = now, line.index(late_comer)
    for index, task in enumerate(line):
        end += task.remaining_s
        grace_s = _DOUBT * task.total_s if index == place else 0.0
        if index >= place and end > _deadline_s(task) + grace_s:
            return False
    return True


def _deadline_s(task: ActiveTask) -> float:
    return inf if task.deadline_s is None else task.deadline_s
