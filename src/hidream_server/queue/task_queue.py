"""Submit, claim, beat, complete, fail, cancel, hand back: the rules by which tasks move.

Knows nothing of SQL, HTTP or processes. The task table is the queue; nothing is held here that
a restart would miss.
"""

import logging
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from hidream_server.logs import log_context
from hidream_server.store.tasks import Claim, TaskStore
from hidream_server.task import Task, TaskParams, TaskState

logger = logging.getLogger(__name__)

#: How long a claim holds without a beat, in seconds.
LEASE_S = 30.0
#: Seeds that are drawn stay short enough to be typed.
_DRAWN_SEED_BITS = 32
#: Over how many completed tasks the speed is averaged.
_SPEED_WINDOW = 20
#: Seconds per cost (row × step × megapixel) before the first task has been measured.
UNMEASURED_SPEED = 0.2


def draw_seed() -> int:
    """Return a seed for a task that was submitted without one."""
    return secrets.randbits(_DRAWN_SEED_BITS)


class TaskQueue:
    """All tasks, as one worker group's supervisor and the HTTP side see them."""

    def __init__(
        self,
        store: TaskStore,
        max_crashes: int,
        clock: Callable[[], float] = time.time,
        lanes: int = 1,
    ) -> None:
        """`lanes` is how many worker groups take from it at once."""
        self._store = store
        self._max_crashes = max_crashes
        self._clock = clock
        self._lanes = lanes
        self._submit_listeners: list[Callable[[], object]] = []
        self._cancel_listeners: list[Callable[[str], object]] = []

    def on_submit(self, listener: Callable[[], object]) -> None:
        """Call `listener`, from any thread, after tasks have been accepted."""
        self._submit_listeners.append(listener)

    def on_cancel(self, listener: Callable[[str], object]) -> None:
        """Call `listener`, from any thread, with the id of a task that has been cancelled."""
        self._cancel_listeners.append(listener)

    def submit(self, requests: Sequence[TaskParams]) -> list[Task]:
        """Accept tasks, all or none; they are kept once this returns."""
        now, speed = self._clock(), self._speed()
        new = [self._task(params, now, speed) for params in requests]
        self._store.insert(new)
        for task in new:
            with log_context(task=task.id):
                logger.info("Task accepted")
        for listener in self._submit_listeners:
            listener()
        return new

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

    def estimate(self, requests: Sequence[TaskParams]) -> list[float]:
        """Return the seconds until each of these would be done, if submitted now in this order."""
        now, speed = self._clock(), self._speed()
        tasks = [self._task(params, now, speed) for params in requests]
        estimates = []
        for number, task in enumerate(tasks):
            passed = (other for other in tasks[:number] if other.due <= task.due)
            ahead = self._store.waiting_cost(task.due) + sum(t.params.cost for t in passed)
            estimates.append((ahead / self._lanes + task.params.cost) * speed)
        return estimates

    def _speed(self) -> float:
        """Return seconds per cost."""
        return self._store.recent_speed(_SPEED_WINDOW) or UNMEASURED_SPEED

    def _task(self, params: TaskParams, now: float, speed: float) -> Task:
        """Short tasks are due before long ones that came a little earlier, as on the ranks."""
        task = Task(id=str(uuid.uuid4()), state=TaskState.QUEUED, params=params, created_at=now)
        return replace(task, due=task.arrived_at + params.cost * speed)

    def claim(self, owner: str, count: int) -> list[Task]:
        """Take up to `count` of the queued tasks, those due first, for a worker group."""
        return self._store.claim(owner, count, self._clock(), LEASE_S)

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
