"""Submit, claim, beat, complete, fail, cancel, hand back: the rules by which tasks move.

Knows nothing of SQL, HTTP or processes. The task table is the queue; nothing is held here that
a restart would miss.
"""

import logging
import math
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hidream_server.logs import log_context
from hidream_server.queue.outlook import Outlook
from hidream_server.scheduling.places import due
from hidream_server.store.tasks import Claim, TaskStore
from hidream_server.task import Task, TaskParams, TaskState

logger = logging.getLogger(__name__)

#: How long a claim holds without a beat, in seconds.
LEASE_S = 30.0
#: Seeds that are drawn stay short enough to be typed.
_DRAWN_SEED_BITS = 32
#: So many of the queued tasks are forecast one by one; those behind them by their cost.
_HORIZON = 64
#: What is longer is no address and no key of ours.
_CLIENT_CHARS = 64
#: Deadlines that are tried to find one that can be met, by how long the steps take alone.
_DEADLINES_TRIED = (1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0)
#: A forecast that is asked for again and again is made anew after so many seconds.
_FRESH_S = 1.0


def draw_seed() -> int:
    """Return a seed for a task that was submitted without one."""
    return secrets.randbits(_DRAWN_SEED_BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """A look ahead, and when it was made."""

    at: float
    #: Of each task before the horizon.
    left_s: dict[str, float]
    #: When the last of those is due.
    horizon: float
    #: Seconds for each cost, on the average.
    cost_s: float


class TaskQueue:
    """All tasks, as one worker group's supervisor and the HTTP side see them."""

    def __init__(
        self,
        store: TaskStore,
        max_crashes: int,
        outlook: Outlook,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._max_crashes = max_crashes
        self._outlook = outlook
        self._clock = clock
        self._ahead = _Ahead(at=-math.inf, left_s={}, horizon=math.inf, cost_s=0.0)
        self._submit_listeners: list[Callable[[], object]] = []
        self._cancel_listeners: list[Callable[[str], object]] = []

    def on_submit(self, listener: Callable[[], object]) -> None:
        """Call `listener`, from any thread, after tasks have been accepted."""
        self._submit_listeners.append(listener)

    def on_cancel(self, listener: Callable[[str], object]) -> None:
        """Call `listener`, from any thread, with the id of a task that has been cancelled."""
        self._cancel_listeners.append(listener)

    def draft(self, requests: Sequence[TaskParams], client: str = "") -> list[Task]:
        """Return the tasks that these would be, if submitted now; nothing is kept."""
        now = self._clock()
        return [self._task(params, client, now) for params in requests]

    def submit(self, new: Sequence[Task]) -> None:
        """Accept drafted tasks, all or none; they are kept once this returns."""
        self._store.insert(new)
        for task in new:
            with log_context(task=task.id):
                logger.info("Task accepted")
        for listener in self._submit_listeners:
            listener()

    def cancel(self, task_id: str) -> bool:
        """Cancel a task that has not ended; False if it has, or never was."""
        if not self._store.cancel(task_id, self._clock()):
            return False
        with log_context(task=task_id):
            logger.info("Task cancelled")
        for listener in self._cancel_listeners:
            listener(task_id)
        return True

    def get(self, task_id: str) -> Task | None:
        return self._store.get(task_id)

    def counts(self) -> dict[TaskState, int]:
        return self._store.counts()

    def estimate(self, drafts: Sequence[Task]) -> list[float]:
        """Return the seconds until each of these would be done, if all were submitted now."""
        ahead = self._look_ahead(drafts)
        return [
            max(ahead.left_s[task.id], self._behind_s(task.due, ahead, task.params.cost))
            for task in drafts
        ]

    def least_deadline(self, draft: Task) -> float:
        """Return the seconds after which a task could be promised, about; at most the estimate."""
        [late] = self.estimate([self._with_deadline(draft, None)])
        for factor in _DEADLINES_TRIED:
            wanted = factor * self._outlook.alone_s(draft.params)
            if wanted >= late:
                break
            [promised] = self.estimate([self._with_deadline(draft, wanted)])
            if promised <= wanted:
                return wanted
        return late

    def _with_deadline(self, draft: Task, deadline_s: float | None) -> Task:
        params = replace(draft.params, deadline_s=deadline_s)
        return self._task(params, draft.client, draft.created_at)

    def seconds_left(self, task: Task) -> float | None:
        """Return the seconds until a task will be done, None if it has ended."""
        if not task.state.is_open:
            return None
        ahead, now = self._ahead, self._clock()
        is_new = task.id not in ahead.left_s and task.due < ahead.horizon
        if is_new or now - ahead.at > _FRESH_S:
            ahead = self._ahead = self._look_ahead([])
        left_s = ahead.left_s.get(task.id)
        if left_s is None:
            left_s = self._behind_s(task.due, ahead)
        return max(0.0, left_s - (now - ahead.at))

    def position(self, task: Task) -> int | None:
        """Return how many queued tasks are before a queued one, None if it is not queued."""
        if task.state is not TaskState.QUEUED:
            return None
        return self._store.queued_before(task.id)

    def _look_ahead(self, drafts: Sequence[Task]) -> _Ahead:
        """Forecast what is running and queued, up to the horizon, and some tasks more."""
        waiting = self._store.waiting(_HORIZON)
        left_s = self._outlook.seconds_left(sorted([*waiting, *drafts], key=lambda task: task.due))
        queued = [task for task in waiting if task.state is TaskState.QUEUED]
        all_s = max((left_s[task.id] for task in waiting), default=0.0)
        return _Ahead(
            at=self._clock(),
            left_s=left_s,
            horizon=queued[-1].due if len(queued) == _HORIZON else math.inf,
            cost_s=all_s / (sum(task.params.cost for task in waiting) or 1.0),
        )

    def _behind_s(self, due: float, ahead: _Ahead, more: float = 0.0) -> float:
        """Return the seconds until all is done that is due until then, if that is far off."""
        if due < ahead.horizon:
            return 0.0
        return (self._store.waiting_cost(due) + more) * ahead.cost_s

    def _task(self, params: TaskParams, client: str, now: float) -> Task:
        task = Task(
            id=str(uuid.uuid4()),
            state=TaskState.QUEUED,
            params=params,
            client=client[:_CLIENT_CHARS],
            created_at=now,
        )
        alone_s = self._outlook.alone_s(params)
        return replace(task, due=due(task.arrived_at, alone_s, task.deadline_at))

    def claim(self, owner: str, count: int, due_before: float = math.inf) -> list[Task]:
        """Take up to `count` of the queued tasks for a worker group.

        Those due first, and of all clients alike; with `due_before` only those due earlier, and of
        clients that have none running.
        """
        return self._store.claim(owner, count, self._clock(), LEASE_S, due_before)

    def beat(self, claim: Claim, steps_done: int) -> bool:
        """Keep a claim, and record its progress; False if it has been taken away."""
        return self._store.beat(claim, steps_done, self._clock() + LEASE_S)

    def complete(self, claim: Claim, pictures: Sequence[str], timings: dict[str, float]) -> bool:
        return self._store.complete(claim, self._clock(), pictures, timings)

    def fail(self, claim: Claim, reason: str) -> bool:
        return self._store.fail(claim, self._clock(), reason)

    def hand_back(self, claim: Claim) -> bool:
        """Queue a task again that was not at fault."""
        return self._store.release(claim, crashed=False)

    def crashed(self, task: Task, reason: str) -> bool:
        """Queue a task again that was running when its group went down, or fail it at last."""
        claim = (task.id, task.attempt)
        if task.crashes + 1 < self._max_crashes:
            return self._store.release(claim, crashed=True)
        return self._store.fail(
            claim,
            self._clock(),
            f"The worker group went down {task.crashes + 1} times while this task was running;"
            f" the last time: {reason}",
        )

    def recover(self) -> int:
        """Queue again what a former server process left running; return how many tasks.

        Only for the sole owner of the task table, before it claims anything.
        """
        return self._store.reap(float("inf"))
