"""What whoever counts or traces the work is told of it, and why tasks end.

Knows tasks; knows nothing of who listens. Those who tell wait for no answer.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from hidream_server.task import Task

logger = logging.getLogger(__name__)

#: The cache of what the text encoders made of prompts.
PROMPT_EMBEDDINGS = "prompt_embeddings"
#: Of what the network said at an earlier step; looked up by the steps of tasks that may reuse it.
STEP_OUTPUTS = "step_outputs"


class EndReason(StrEnum):
    """Why a task failed; the few kinds that are told apart."""

    CRASHED = "crashed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    DISK = "disk"
    OTHER = "other"

    @classmethod
    def of(cls, text: str) -> "EndReason":
        """Return the kind of what a rank, or a project, says of its failure."""
        said = text.lower()
        for reason, signs in _SIGNS.items():
            if any(sign in said for sign in signs):
                return reason
        return cls.OTHER


_SIGNS = {
    EndReason.OUT_OF_MEMORY: ("out of memory", "outofmemory", "can't allocate memory"),
    EndReason.DISK: ("no space left on device", "disk quota exceeded"),
}


class Observer:
    """Hears of everything, from any thread, and does nothing; others do something with it."""

    def submitted(self, tasks: Sequence[Task]) -> None:
        """Tasks were accepted; told where their submission is served."""

    def started(self, task: Task) -> None:
        """A worker group has taken this attempt of a task."""

    def left(self, task: Task) -> None:
        """A worker group has no more to do with this attempt."""

    def completed(self, task: Task, timings: Mapping[str, float]) -> None:
        """A task has its pictures; timings are seconds by stage of the attempt that made them."""

    def failed(self, task_id: str, reason: EndReason) -> None:
        """A task has failed for good."""

    def cancelled(self, task_id: str) -> None:
        """A task was cancelled."""

    def stepped(self, rows: int, seconds: float) -> None:
        """A step of so many rows was finished."""

    def group_started(self, group: int) -> None:
        """A worker group is started; its number stays the same when another takes its place."""

    def memory_used(self, group: int, rank: int, peak_bytes: int) -> None:
        """A rank of a group said how much memory it has held at most."""

    def looked_up(self, cache: str, requests: int, hits: int) -> None:
        """So often something was looked up in a cache, and so often it was there."""


#: Told where nobody listens.
UNOBSERVED = Observer()


class Observers(Observer):
    """Passes on to several; what goes wrong with one of them stops no other and no work."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                logger.exception("Something could not be counted or traced")

    def submitted(self, tasks: Sequence[Task]) -> None:
        self._tell(lambda one: one.submitted(tasks))

    def started(self, task: Task) -> None:
        self._tell(lambda one: one.started(task))

    def left(self, task: Task) -> None:
        self._tell(lambda one: one.left(task))

    def completed(self, task: Task, timings: Mapping[str, float]) -> None:
        self._tell(lambda one: one.completed(task, timings))

    def failed(self, task_id: str, reason: EndReason) -> None:
        self._tell(lambda one: one.failed(task_id, reason))

    def cancelled(self, task_id: str) -> None:
        self._tell(lambda one: one.cancelled(task_id))

    def stepped(self, rows: int, seconds: float) -> None:
        self._tell(lambda one: one.stepped(rows, seconds))

    def group_started(self, group: int) -> None:
        self._tell(lambda one: one.group_started(group))

    def memory_used(self, group: int, rank: int, peak_bytes: int) -> None:
        self._tell(lambda one: one.memory_used(group, rank, peak_bytes))

    def looked_up(self, cache: str, requests: int, hits: int) -> None:
        self._tell(lambda one: one.looked_up(cache, requests, hits))
