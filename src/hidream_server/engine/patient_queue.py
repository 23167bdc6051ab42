"""The task queue as a supervisor uses it: beside the event loop, and however long it is away.

What a group has done is written down once the database answers again; meanwhile the ranks go on.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from hidream_server.errors import StoreUnavailableError
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.statements import Claim
from hidream_server.task import Task, TaskState

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: The database is tried again after so many seconds.
_AGAIN_S = 0.5


class PatientQueue:
    """One supervisor's way to the queue."""

    def __init__(
        self,
        queue: TaskQueue,
        owner: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        model: str | None = None,
    ) -> None:
        """`owner` is whose the leases are, for a later life of the same owner to take back.

        Only tasks of `model` are claimed, if it is given.
        """
        self._queue = queue
        self._owner = owner
        self._model = model
        self._clock = clock
        self._sleep = sleep
        self._give_up_at = math.inf

    def listen(self, submitted: Callable[[], object], ended: Callable[[str], object]) -> None:
        """Call these in the running event loop: after a submission, and after an end from outside.

        The latter gets the id of the task.
        """
        loop = asyncio.get_running_loop()
        self._queue.on_submit(lambda: loop.call_soon_threadsafe(submitted))
        self._queue.on_end(lambda task_id: loop.call_soon_threadsafe(ended, task_id))

    def give_up_at(self, when: float) -> None:
        """Raise StoreUnavailableError, from then on, rather than wait."""
        self._give_up_at = when

    async def claim(self, due_before: float) -> list[Task]:
        """Take a task; none while the database is away."""
        try:
            return await asyncio.to_thread(
                self._queue.claim, self._owner, 1, due_before, self._model
            )
        except StoreUnavailableError:
            return []

    async def beat(
        self, steps_done: Mapping[Claim, int], previews: Sequence[tuple[Claim, int]] = ()
    ) -> set[Claim] | None:
        """Keep claims; return those that are lost, None while the database is away."""
        try:
            return await asyncio.to_thread(self._queue.beat, steps_done, previews)
        except StoreUnavailableError:
            return None

    async def is_idle(self) -> bool:
        """Tell whether nothing is queued; no while the database is away."""
        try:
            counts = await asyncio.to_thread(self._queue.counts)
        except StoreUnavailableError:
            return False
        return counts[TaskState.QUEUED] == 0

    # All below raise StoreUnavailableError only when it is time to give up.

    async def complete(
        self,
        claim: Claim,
        pictures: Sequence[str],
        timings: dict[str, float],
        picture_bytes: int,
        reused_steps: int | None = None,
    ) -> bool:
        """Publish a task's pictures; False if it was taken away."""
        done = await self._insist(
            self._queue.complete, claim, pictures, timings, picture_bytes, reused_steps
        )
        return done or await self._was_done(claim, TaskState.COMPLETED)

    async def fail(self, claim: Claim, reason: str) -> bool:
        """Fail a task with a reason; False if it was taken away."""
        done = await self._insist(self._queue.fail, claim, reason)
        return done or await self._was_done(claim, TaskState.FAILED)

    async def hand_back(self, claim: Claim, reason: str) -> bool:
        """Queue a task again; False if it was taken away."""
        return await self._insist(self._queue.hand_back, claim, reason)

    async def _was_done(self, claim: Claim, state: TaskState) -> bool:
        """Tell whether an earlier try succeeded of which the database could not say so."""
        task = await self._insist(self._queue.get, claim[0])
        return task is not None and (task.attempt, task.state) == (claim[1], state)

    async def crashed(self, task: Task, reason: str) -> bool:
        """Write down that a task's group went down; return whether the task failed by that."""
        return await self._insist(self._queue.crashed, task, reason) is TaskState.FAILED

    async def _insist(self, verb: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        while True:
            try:
                return await asyncio.to_thread(verb, *args, **kwargs)
            except StoreUnavailableError:
                if self._clock() >= self._give_up_at:
                    raise
            await self._sleep(_AGAIN_S)
