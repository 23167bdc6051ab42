"""When each task will be done if nothing else comes: the policy itself, run ahead of time.

Pure numbers; goes from one change of mind to the next instead of from step to step.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, inf

from hidream_server.scheduling.active_task import ActiveTask, Share
from hidream_server.scheduling.deadlines import latest_start, promised
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.places import next_place
from hidream_server.scheduling.policy import alone_s, charge, next_step, order
from hidream_server.scheduling.shares import FairShares
from hidream_server.scheduling.widths import Widths

#: So many waiting tasks are followed one by one, the work of the rest is added up.
FOLLOWED = 32
#: Clients may take turns step by step; the forecast follows about so many turns, and makes them
#: longer where there is more to do.
TURNS = 128


@dataclass(frozen=True, slots=True)
class Group:
    """What a worker group goes by."""

    widths: Widths
    pace: Pace
    shares: FairShares
    #: Tasks that it has on hand.
    places: int


def forecast(
    active: Iterable[ActiveTask],
    waiting: Sequence[ActiveTask],
    group: Group,
    now: float,
) -> dict[int, float]:
    """Return the seconds from now until each task is done, by its number.

    `waiting` join as there are places for them. It is what the policy will do, step by step, for
    the first FOLLOWED of them; where several clients have more than TURNS steps to do, it is near
    that only.
    """
    in_turn = _in_turn(waiting)
    followed, rest = in_turn[:FOLLOWED], in_turn[FOLLOWED:]
    course = _Course(active, followed, group, now)
    work_s = sum(task.remaining_s for task in (*course.tasks.values(), *followed))
    done = {number: at - now for number, at in course.run()}
    elapsed_s = max(done.values(), default=0.0)
    # The rest will share forwards about as much.
    stretch = elapsed_s / work_s if work_s else 1.0
    for task in rest:
        elapsed_s += stretch * task.remaining_s
        done[task.number] = elapsed_s
    return done


def _in_turn(waiting: Sequence[ActiveTask]) -> list[ActiveTask]:
    """Return first the first task of each client, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    ranked = []
    for task in waiting:
        ranked.append((seen[task.client], task))
        seen[task.client] += 1
    return [task for _, task in sorted(ranked, key=lambda pair: pair[0])]


class _Course:
    """The tasks on their way to their ends."""

    def __init__(
        self,
        active: Iterable[ActiveTask],
        waiting: Sequence[ActiveTask],
        group: Group,
        now: float,
    ) -> None:
        self.tasks = {task.number: task for task in active}
        self._waiting = list(waiting)
        self._group = group
        self._shares = group.shares.copy()
        self._now = now
        steps = sum(task.steps_left for task in (*self.tasks.values(), *waiting))
        self._turn = ceil(steps / TURNS)

    def run(self) -> Iterator[tuple[int, float]]:
        """Yield the number of each task and when it ends."""
        self._admit()
        while self.tasks:
            step = next_step(self.tasks.values(), self._group.widths, self._shares, self._now)
            leader = self.tasks[step[0].number]
            rows = sum(share.rows for share in step)
            step_s = self._group.pace.step_s(leader.shape, rows, leader.fp8)
            steps = self._unchanged(step, step_s)
            self._now += steps * step_s
            charge(step, self._shares, steps * step_s)
            for share in step:
                task = self.tasks[share.number].stepped(share.images, steps)
                self.tasks[share.number] = task
                if not task.images_left:
                    del self.tasks[share.number]
                    yield share.number, self._now
            self._admit()

    def _admit(self) -> None:
        while task := next_place(self._waiting, self.tasks.values(), self._group.places):
            self._waiting.remove(task)
            self.tasks[task.number] = task

    def _unchanged(self, step: Sequence[Share], step_s: float) -> int:
        """Return for how many steps the same images will be chosen."""
        bounds = [self._until_overtaken(step), self._until_deadline(step, step_s)]
        bounds += [min(self.tasks[share.number].image_steps[: share.images]) for share in step]
        if any(task.client != step[0].client for task in self.tasks.values()):
            bounds.append(self._turn)
        return max(1, floor(min(bounds)))

    def _until_overtaken(self, step: Sequence[Share]) -> float:
        """Return the steps until one of them has less left than one before it.

        All others stand still meanwhile, so they overtake nobody.
        """
        tasks = [self.tasks[share.number] for share in step]
        keys = [order(task)[0] for task in tasks]
        falls = [share.images * task.step_s for share, task in zip(step, tasks, strict=True)]
        return min(
            (
                float(ceil((after - before) / (faster - slower)))
                for (before, after), (slower, faster) in zip(
                    pairwise(keys), pairwise(falls), strict=True
                )
                if faster > slower
            ),
            default=inf,
        )

    def _until_deadline(self, step: Sequence[Share], step_s: float) -> float:
        """Return the steps until a deadline takes the lead; when one has it, it keeps it."""
        tasks = self.tasks.values()
        spare_s = latest_start(promised(tasks, self._now)) - self._now - alone_s(step, tasks)
        return inf if spare_s < 0 or spare_s == inf else floor(spare_s / step_s) + 1
