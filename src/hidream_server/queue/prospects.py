"""Where a task stands in the queue, and when it will be done.

Looks ahead at what is running and queued now and then, and answers many questions from one look.
"""

import math
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from hidream_server.queue.outlook import Outlook
from hidream_server.scheduling.places import due
from hidream_server.store.reading import InLine, TaskReader
from hidream_server.task import Task, TaskState

#: So many of the queued tasks are forecast one by one; those behind them by their cost.
_HORIZON = 64
#: Deadlines that are tried to find one that can be met, by how long the steps take alone.
_DEADLINES_TRIED = (1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0)
#: A look is believed for so many seconds, and by whoever is not yet in it for so many times as
#: long as it took: in a storm of submissions most of the time is left for other things.
_FRESH_S, _REST = 1.0, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What was seen of the queue, and when."""

    at: float
    #: Seconds that it took to look.
    took_s: float
    #: What is running, and the first that are queued.
    near: tuple[Task, ...]
    #: Seconds until each of those is done, and drafts that were to be looked at with them.
    left_s: dict[str, float]
    #: What is queued, where each task of it stands, and the cost up to and with each.
    line: list[InLine]
    positions: dict[str, int]
    costs: list[float]
    #: Seconds for each cost, on the average.
    cost_s: float

    def queued_before(self, task: Task) -> int:
        """Return how many queued tasks are before one that is queued, or would be."""
        after = bisect_right(self.line, task.due, key=lambda queued: queued.due)
        return self.positions.get(task.id, after)

    def is_far(self, task: Task) -> bool:
        """Tell whether a task is behind those that were looked at one by one."""
        return self.queued_before(task) >= _HORIZON

    def by_cost_s(self, task: Task) -> float:
        """Return the seconds until a task and all before it are done, by what they cost."""
        before = self.queued_before(task)
        return self._through_s((self.costs[before - 1] if before else 0) + task.params.cost)

    def end_s(self, count: int, client: str | None) -> float | None:
        """Return the seconds until so many are done, of one client or of all; None for none."""
        mine = [t for t in self.near if client is None or t.client == client]
        ends = sorted(self.left_s[task.id] for task in mine)
        if count > len(ends):
            ends += [
                self._through_s(self.costs[position])
                for position, queued in enumerate(self.line[_HORIZON:], _HORIZON)
                if client is None or queued.client == client
            ]
        return ends[min(count, len(ends)) - 1] if ends else None

    def _through_s(self, queued_cost: float) -> float:
        """Return the seconds for what is running, and so much of what is queued, by cost."""
        running = (near for near in self.near if near.state is TaskState.PROCESSING)
        return (sum(near.params.cost for near in running) + queued_cost) * self.cost_s


class Prospects:
    """What there is to expect of waiting tasks; may be used from any thread."""

    def __init__(
        self, store: TaskReader, outlook: Outlook, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._outlook = outlook
        self._clock = clock
        self._last: _Look | None = None
        #: Held by the one who looks again, of those who find the last look too old.
        self._looking = threading.Lock()

    def estimate(self, drafts: Sequence[Task]) -> list[float]:
        """Return the seconds until each of these would be done, if all were submitted now."""
        look = self._look(drafts)
        return [
            max(look.left_s[task.id], look.by_cost_s(task) if look.is_far(task) else 0.0)
            for task in drafts
        ]

    def least_deadline(self, draft: Task) -> float:
        """Return the seconds after which a task could be promised, about; at most the estimate."""
        [late] = self.estimate([self.with_deadline(draft, None)])
        for factor in _DEADLINES_TRIED:
            wanted = factor * self._outlook.alone_s(draft.params)
            if wanted >= late:
                break
            [promised] = self.estimate([self.with_deadline(draft, wanted)])
            if promised <= wanted:
                return wanted
        return late

    def with_deadline(self, draft: Task, deadline_s: float | None) -> Task:
        """Return a draft as it would be with this deadline: also elsewhere in the queue."""
        return self.with_due(replace(draft, params=replace(draft.params, deadline_s=deadline_s)))

    def with_due(self, draft: Task) -> Task:
        """Return a draft that says when it is due, which is its place in the queue."""
        alone_s = self._outlook.alone_s(draft.params)
        return replace(draft, due=due(draft.arrived_at, alone_s, draft.deadline_at))

    def seconds_left(self, task: Task) -> float | None:
        """Return the seconds until a task will be done, None if it has ended."""
        if not task.state.is_open:
            return None
        look = self._recent(task)
        left_s = look.left_s.get(task.id)
        if left_s is None:
            left_s = look.by_cost_s(task)
        return max(0.0, left_s - (self._clock() - look.at))

    def position(self, task: Task) -> int | None:
        """Return how many queued tasks are before a queued one, None if it is not queued."""
        if task.state is not TaskState.QUEUED:
            return None
        return self._recent(task).queued_before(task)

    def wait_s(self, count: int, client: str | None = None) -> float:
        """Return the seconds until so many of the waiting tasks are done, of one client or all."""
        look = self._recent()
        end_s = look.end_s(count, client)
        return _FRESH_S if end_s is None else max(_FRESH_S, end_s - (self._clock() - look.at))

    def _recent(self, task: Task | None = None) -> _Look:
        """Return a look that is new enough, and in which this task is seen."""
        if (look := self._believable(task)) is not None:
            return look
        last = self._last
        # Whoever asks while another is looking is answered from the look before.
        if not self._looking.acquire(blocking=last is None):
            assert last is not None
            return last
        try:
            if (look := self._believable(task)) is None:
                look = self._last = self._look([])
            return look
        finally:
            self._looking.release()

    def _believable(self, task: Task | None) -> _Look | None:
        look = self._last
        if look is None or (age_s := self._clock() - look.at) > _FRESH_S:
            return None
        seen = task is None or task.id in look.left_s or task.id in look.positions
        return look if seen or age_s < _REST * look.took_s else None

    def _look(self, drafts: Sequence[Task]) -> _Look:
        start = self._clock()
        near = self._store.waiting(_HORIZON)
        line = self._store.line()
        left_s = self._outlook.seconds_left(sorted([*near, *drafts], key=lambda task: task.due))
        all_s = max((left_s[task.id] for task in near), default=0.0)
        return _Look(
            at=self._clock(),
            took_s=self._clock() - start,
            near=tuple(near),
            left_s=left_s,
            line=line,
            positions={queued.id: position for position, queued in enumerate(line)},
            costs=list(accumulate(queued.cost for queued in line)),
            cost_s=all_s / (sum(task.params.cost for task in near) or math.inf),
        )
