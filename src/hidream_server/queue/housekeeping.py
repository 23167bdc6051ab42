"""What must be done now and then so that nothing is lost, overrun or left behind.

Leases that ran out, tasks whose time is over, pictures and rows that are old, files of no task.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hidream_server.errors import ResultsUnavailableError, StoreUnavailableError
from hidream_server.queue.task_queue import LEASE_S, TaskQueue
from hidream_server.settings import Settings
from hidream_server.store.batches import BatchStore
from hidream_server.store.blobs import Blobs
from hidream_server.store.database import Database
from hidream_server.store.files import FileStore
from hidream_server.store.outbox import Outbox
from hidream_server.store.pictures import claim_of_checkpoint, claim_of_picture, claim_of_preview
from hidream_server.store.results import Results
from hidream_server.store.retention import EndedTasks, Excess
from hidream_server.store.statements import Claim
from hidream_server.task import Task, TaskState

logger = logging.getLogger(__name__)

_DAY_S = 86400.0
#: What happened to a task is known for so long after its end, and what came of a message after the
#: last try, in seconds.
HISTORY_S = _DAY_S
#: What is old is looked for so often, and what no task owns, in seconds.
_RETIRE_S, _SWEEP_S = 60.0, 3600.0
#: So many names are looked up at once.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseRules:
    """How long things may be; 0 is for ever, or without a bound."""

    queued_s: float = 0.0
    running_s: float = 0.0
    pictures_s: float = 0.0
    pictures_bytes: float = 0.0
    tasks_s: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "HouseRules":
        return cls(
            queued_s=settings.queue_timeout_s,
            running_s=settings.run_timeout_s,
            pictures_s=settings.keep_pictures_days * _DAY_S,
            pictures_bytes=settings.keep_pictures_gb * 2**30,
            tasks_s=settings.keep_tasks_days * _DAY_S,
        )


class Housekeeper:
    """Keeps one database and the files beside it in order."""

    def __init__(
        self,
        queue: TaskQueue,
        database: Database,
        results: Results,
        rules: HouseRules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._database = database
        self._ended = EndedTasks(database)
        self._outbox = Outbox(database)
        self._files, self._batches = FileStore(database), BatchStore(database)
        self._results = results
        self._rules = rules
        self._clock = clock
        #: Of each duty that may take long, how often it is one, and when it was done last.
        self._every_s = {self.retire: _RETIRE_S, self.forget: _RETIRE_S, self.sweep: _SWEEP_S}
        self._done_at = dict.fromkeys(self._every_s, -math.inf)
        self._stopping = threading.Event()

    def watch(self) -> None:
        """Do what may wait for no other duty, which is why `tidy` is for another thread."""
        self._done(self.free_lapsed)

    def tidy(self) -> None:
        """Do what it is time for; a duty that fails is tried again and keeps no other from its."""
        for duty, every_s in self._every_s.items():
            if self._stopping.is_set():
                return
            if self._clock() - self._done_at[duty] < every_s:
                continue
            if not self._done(duty):
                return
            self._done_at[duty] = self._clock()

    def stop(self) -> None:
        """Let whoever tidies up in another thread come to an end: what is left is swept later."""
        self._stopping.set()

    def _done(self, duty: Callable[[], object]) -> bool:
        """Do a duty as far as that can be; False while the database is away, for then none can."""
        try:
            duty()
        except ResultsUnavailableError:
            # Which is in the log already, once.
            pass
        except StoreUnavailableError:
            return False
        except Exception:
            logger.exception("The house could not be kept in order")
        return True

    def free_lapsed(self) -> None:
        """Queue tasks again whose group is gone, and fail those whose time is over."""
        # While the database was away nobody could renew a lease, or write down what was finished:
        # all may do so first.
        if self._database.answering_s() < LEASE_S:
            return
        if count := self._queue.reap():
            logger.warning("%d task(s) whose lease ran out are queued again", count)
        self._queue.end_overdue(self._rules.queued_s, self._rules.running_s)

    def retire(self) -> None:
        """Delete pictures that are too old or too many."""
        now, rules = self._clock(), self._rules
        excess = Excess(
            made_before=now - rules.pictures_s if rules.pictures_s else 0.0,
            size_bytes=rules.pictures_bytes or float("inf"),
        )
        while not self._stopping.is_set() and (expired := self._ended.expire(excess, now)):
            logger.info("Pictures of %d task(s) expired", len(expired))
            # The rows say so before the files are gone: a link that is given leads to a file.
            names = [name for task in expired for name in task.pictures]
            self._drop(self._results.pictures, names)

    def forget(self) -> None:
        """Delete rows that are too old, of what has no pictures any more."""
        now, rules = self._clock(), self._rules
        if rules.tasks_s:
            self._ended.forget(now - rules.tasks_s)
            self._files.forget(now - rules.tasks_s)
            self._batches.forget(now - rules.tasks_s)
        self._queue.history.forget(now - HISTORY_S)
        self._outbox.forget(now - HISTORY_S)

    def sweep(self) -> None:
        """Delete files that no task owns any more, or ever did.

        Names come first, then the tasks: so whatever another server's group has put meanwhile is
        known as that of its attempt, and an attempt that is over never comes back.
        """
        results = self._results
        count = sum(
            (
                self._sweep(results.pictures, claim_of_picture, _owns_picture),
                self._sweep(results.checkpoints, claim_of_checkpoint, _owns_checkpoint),
                self._sweep(results.previews, claim_of_preview, _owns_preview),
            )
        )
        if count:
            logger.info("%d file(s) that no task owns were deleted", count)
        for blobs in (results.pictures, results.checkpoints, results.previews):
            if not self._stopping.is_set():
                blobs.drop_unfinished()

    def _sweep(
        self,
        blobs: Blobs,
        claim_of: Callable[[str], Claim | None],
        owns: Callable[[Task, int, str], bool],
    ) -> int:
        """Delete what is not owned, of what may have an owner; return how many."""
        names = [(name, claim) for name in blobs.names() if (claim := claim_of(name))]
        count = 0
        for start in range(0, len(names), _AT_ONCE):
            if self._stopping.is_set():
                break
            some = names[start : start + _AT_ONCE]
            ids = sorted({task_id for _, (task_id, _) in some})
            tasks = {task.id: task for task in self._queue.find(ids)}
            count += self._drop(
                blobs,
                [
                    name
                    for name, (task_id, attempt) in some
                    if (task := tasks.get(task_id)) is None or not owns(task, attempt, name)
                ],
            )
        return count

    def _drop(self, blobs: Blobs, names: Sequence[str]) -> int:
        """Delete files until it is to stop; return how many."""
        for count, name in enumerate(names):
            # Each may take its time, where they are far away.
            if self._stopping.is_set():
                return count
            blobs.drop(name)
        return len(names)


def _owns_picture(task: Task, attempt: int, name: str) -> bool:
    """Tell whether a picture is a task's result, or may become it."""
    if task.state is TaskState.PROCESSING:
        return attempt == task.attempt
    return name in task.pictures and task.expired_at is None


def _owns_checkpoint(task: Task, _attempt: int, _name: str) -> bool:
    """Tell whether a task may go on from a checkpoint: from the newest that can be read."""
    return task.state.is_open


def _owns_preview(task: Task, attempt: int, _name: str) -> bool:
    """Tell whether a preview is what an unfinished task looks like now."""
    return task.state.is_open and attempt == task.attempt
