"""Submit, claim, beat, complete, fail, cancel, hand back: the rules by which tasks move.

Knows nothing of SQL, HTTP or processes. The task table is the queue; nothing is held here that
a restart would miss.
"""

import logging
import math
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from hidream_server.errors import ClientQueueFullError, QueueFullError
from hidream_server.logs import log_context
from hidream_server.observer import UNOBSERVED, EndReason, Observer
from hidream_server.queue.bounds import NO_BOUNDS, Bounds
from hidream_server.queue.prospects import Prospects
from hidream_server.store.database import Along
from hidream_server.store.hints import MOVED, QUEUED
from hidream_server.store.history import History
from hidream_server.store.reading import Wanted
from hidream_server.store.statements import Claim
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task, TaskParams, TaskState

logger = logging.getLogger(__name__)

#: How long a claim holds without a beat, in seconds.
LEASE_S = 30.0
#: Seeds that are drawn stay short enough to be typed.
_DRAWN_SEED_BITS = 32
#: What is longer is no address and no key of ours.
_CLIENT_CHARS = 64


def draw_seed() -> int:
    """Return a seed for a task that was submitted without one."""
    return secrets.randbits(_DRAWN_SEED_BITS)


class TaskQueue:
    """All tasks, as one worker group's supervisor and the HTTP side see them."""

    def __init__(
        self,
        store: TaskStore,
        prospects: Prospects,
        max_crashes: int,
        bounds: Bounds = NO_BOUNDS,
        clock: Callable[[], float] = time.time,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._store = store
        self.prospects = prospects
        self._max_crashes = max_crashes
        #: What a client is bound by that has no bounds of its own.
        self.bounds = bounds
        self._clock = clock
        self._observer = observer
        self._submit_listeners: list[Callable[[], object]] = []
        self._end_listeners: list[Callable[[str], object]] = []

    def on_submit(self, listener: Callable[[], object]) -> None:
        """Call `listener`, from any thread, after tasks have been accepted."""
        self._submit_listeners.append(listener)

    def on_end(self, listener: Callable[[str], object]) -> None:
        """Call `listener`, from any thread, with the id of a task ended from outside its group."""
        self._end_listeners.append(listener)

    def hear(self, news: str) -> None:
        """Take note of what another process on the same database let be known."""
        self.history.tell()
        if news == QUEUED:
            for listener in self._submit_listeners:
                listener()
        elif news != MOVED:
            self._tell_end(news)

    def draft(
        self,
        requests: Sequence[TaskParams],
        client: str = "",
        weight: float = 1.0,
        bounds: Bounds | None = None,
        model: str = "",
    ) -> list[Task]:
        """Return the tasks of a client that these would be, if submitted now; nothing is kept.

        `bounds` are the client's own, if it has any; `model` is the one they are for, if one is.
        """
        # In whole microseconds, as answers say it: so it can be asked for.
        now = round(self._clock(), 6)
        return [
            self.prospects.with_due(
                Task(
                    id=str(uuid.uuid4()),
                    state=TaskState.QUEUED,
                    params=params,
                    model=model,
                    client=client[:_CLIENT_CHARS],
                    weight=weight,
                    max_running=(bounds or self.bounds).client_running,
                    created_at=now,
                )
            )
            for params in requests
        ]

    def earlier(self, drafts: Sequence[Task], key: str | None) -> list[Task]:
        """Return the tasks that the same request was answered with before, if it was.

        Raises RequestReusedError if its key or the id of a task was that of another request.
        """
        return self._store.earlier(drafts, key)

    def require_room(self, drafts: Sequence[Task], bounds: Bounds | None = None) -> None:
        """Raise OverloadError if drafted tasks are too many for now."""
        with self._saying_when(drafts):
            self._store.check(drafts, partial((bounds or self.bounds).check, drafts))

    def submit(
        self,
        drafts: Sequence[Task],
        key: str | None = None,
        bounds: Bounds | None = None,
        along: Along = lambda _connection: None,
    ) -> list[Task]:
        """Accept one client's drafted tasks, all or none; they are kept once this returns.

        `along` is kept with them, if they are.

        Returns them, or what an earlier submission of the same request was answered with. Raises
        OverloadError if they are too many, RequestReusedError as `earlier` does.
        """
        with self._saying_when(drafts):
            check = partial((bounds or self.bounds).check, drafts)
            kept = self._store.insert(drafts, key, check, along)
        for task in kept:
            with log_context(task=task.id):
                logger.info("Task accepted")
        self._observer.submitted(kept)
        for listener in self._submit_listeners:
            listener()
        return kept

    @contextmanager
    def _saying_when(self, drafts: Sequence[Task]) -> Iterator[None]:
        """Let a refusal say when there will be room; after the transaction, for it looks again."""
        try:
            yield
        except QueueFullError as error:
            error.retry_after_s = self.prospects.wait_s(error.over)
            raise
        except ClientQueueFullError as error:
            error.retry_after_s = self.prospects.wait_s(error.over, drafts[0].client)
            raise

    def cancel(self, task_id: str) -> bool:
        """Cancel a task that has not ended; False if it has, or never was."""
        if not self._store.cancel(task_id, self._clock()):
            return False
        self._tell_cancelled(task_id)
        return True

    def cancel_request(self, client: str, key: str, along: Along) -> int:
        """Cancel the tasks of a request that have not ended, and do `along` if there are any.

        Returns how many.
        """
        cancelled = self._store.cancel_request(client, key, self._clock(), along)
        for task_id in cancelled:
            self._tell_cancelled(task_id)
        return len(cancelled)

    def end_overdue(self, queued_s: float, running_s: float) -> int:
        """Fail what waited or ran for so long without coming to its start or end; 0: for ever."""
        ended: list[str] = []
        for state, bound_s, what in (
            (TaskState.QUEUED, queued_s, "was not started"),
            (TaskState.PROCESSING, running_s, "was not finished"),
        ):
            if bound_s:
                reason = f"The task {what} within {bound_s:g} s."
                ended += self._store.end_overdue(state, self._clock(), bound_s, reason)
        for task_id in ended:
            with log_context(task=task_id):
                logger.error("Task failed: its time was over")
            self._observer.failed(task_id, EndReason.TIMEOUT)
            self._tell_end(task_id)
        return len(ended)

    def _tell_cancelled(self, task_id: str) -> None:
        with log_context(task=task_id):
            logger.info("Task cancelled")
        self._observer.cancelled(task_id)
        self._tell_end(task_id)

    def _tell_end(self, task_id: str) -> None:
        for listener in self._end_listeners:
            listener(task_id)

    def get(self, task_id: str) -> Task | None:
        return self._store.get(task_id)

    def page(self, wanted: Wanted, before: int | None, count: int) -> tuple[list[Task], int | None]:
        """Return a page of the tasks, the latest first, and where the next one begins."""
        return self._store.page(wanted, before, count)

    def delete(self, task_id: str) -> Task | None:
        """Delete a task, cancelled if it has not ended; return it as it was."""
        self.cancel(task_id)
        return self._store.delete(task_id, self._clock())

    @property
    def history(self) -> History:
        """What happened to its tasks."""
        return self._store.history

    def find(self, task_ids: Sequence[str]) -> list[Task]:
        """Return those of these tasks that there are."""
        return self._store.find(task_ids)

    def counts(self) -> dict[TaskState, int]:
        return self._store.counts()

    def claim(
        self, owner: str, count: int, due_before: float = math.inf, model: str | None = None
    ) -> list[Task]:
        """Take up to `count` of the queued tasks for a worker group; if `model`, of that alone.

        Those due first, and of all clients by their weights; with `due_before` only those due
        earlier, and of clients that have none running.
        """
        return self._store.claim(owner, count, self._clock(), LEASE_S, due_before, model)

    def beat(
        self, steps_done: Mapping[Claim, int], previews: Sequence[tuple[Claim, int]] = ()
    ) -> set[Claim]:
        """Keep claims, record their progress, and of which images there are new previews.

        Returns those that have been taken away.
        """
        return self._store.beat(steps_done, self._clock(), LEASE_S, previews)

    def complete(
        self,
        claim: Claim,
        pictures: Sequence[str],
        timings: dict[str, float],
        picture_bytes: int = 0,
        reused_steps: int | None = None,
    ) -> bool:
        return self._store.complete(
            claim, self._clock(), pictures, timings, picture_bytes, reused_steps
        )

    def fail(self, claim: Claim, reason: str) -> bool:
        return self._store.fail(claim, self._clock(), reason)

    def hand_back(self, claim: Claim, reason: str) -> bool:
        """Queue a task again that was not at fault."""
        return self._store.release(claim, self._clock(), crashed=False, reason=reason)

    def crashed(self, task: Task, reason: str) -> TaskState | None:
        """Queue a task again that was running when its group went down, or fail it at last.

        Returns which of the two it is now, None if it has been taken away.
        """
        claim = (task.id, task.attempt)
        if task.crashes + 1 < self._max_crashes:
            released = self._store.release(claim, self._clock(), crashed=True, reason=reason)
            return TaskState.QUEUED if released else None
        failed = self._store.fail(
            claim,
            self._clock(),
            f"The worker group went down {task.crashes + 1} times while this task was running;"
            f" the last time: {reason}",
        )
        return TaskState.FAILED if failed else None

    def take_back(self, owner: str) -> int:
        """Queue again what a former life of this worker group's owner left running."""
        return self._store.take_back(owner, self._clock())

    def reap(self) -> int:
        """Queue again what is running under a lease that has run out; return how many tasks."""
        return self._store.reap(self._clock())
