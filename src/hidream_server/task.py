"""What a user asked for, and the states it may go through.

Pure and frozen: knows nothing of storage, HTTP, devices or processes.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum

#: What the id of a task looks like: a UUID in its usual form.
TASK_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def is_task_id(text: str) -> bool:
    """Tell whether this may be the id of a task."""
    return re.fullmatch(TASK_ID, text) is not None


class TaskState(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """The task has not ended."""
        return self in OPEN


OPEN = (TaskState.QUEUED, TaskState.PROCESSING)


#: The one table of legal transitions. processing → queued is a task handed back.
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.PROCESSING, TaskState.FAILED, TaskState.CANCELLED}),
    TaskState.PROCESSING: frozenset(
        {TaskState.QUEUED, TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}
    ),
    TaskState.COMPLETED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
}


def sources(target: TaskState) -> list[TaskState]:
    """Return the states from which `target` may be entered."""
    return [state for state, targets in TRANSITIONS.items() if target in targets]


class InferType(StrEnum):
    """The first version's inference modes; Profiling adds stage timings to the status.

    Performance may leave out the computing of steps, or compute in fp8, if the server is set so.
    """

    ACCURACY = "Accuracy"
    PERFORMANCE = "Performance"
    PROFILING = "Profiling"


class Priority(StrEnum):
    """How soon a task is to be run."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def head_start_s(self) -> float:
        """Tasks count as submitted so much earlier; a bound, so that no class starves another."""
        return _HEAD_START_S[self]


_HEAD_START_S = {Priority.LOW: -3600.0, Priority.NORMAL: 0.0, Priority.HIGH: 600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskParams:
    """Everything that was asked for; complete, with no default left open."""

    prompt: str
    negative_prompt: str
    #: Pixels.
    width: int
    height: int
    num_inference_steps: int
    #: Above 1 each image is guided and takes two rows of a forward.
    guidance_scale: float
    num_images: int
    #: Seed of image 0; image j uses seed + j.
    seed: int
    infer_type: InferType = InferType.ACCURACY
    priority: Priority = Priority.NORMAL
    #: Seconds after its submission by which it is wanted, if there is such a time.
    deadline_s: float | None = None
    #: How often each image is to be shown while it is unfinished.
    num_previews: int = 0

    @property
    def may_be_lossy(self) -> bool:
        """The picture may be another than the exact one, for the sake of speed."""
        return self.infer_type is InferType.PERFORMANCE

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1

    @property
    def seeds(self) -> list[int]:
        return [self.seed + index for index in range(self.num_images)]

    @property
    def total_steps(self) -> int:
        return self.num_inference_steps * self.num_images

    @property
    def image_rows(self) -> int:
        """How many rows each image takes in a forward."""
        return 2 if self.guided else 1

    @property
    def cost(self) -> float:
        """Expected work in rows × steps × megapixels."""
        return self.total_steps * self.image_rows * self.width * self.height / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as the table knows it. Times are seconds since the epoch, UTC."""

    id: str
    state: TaskState
    params: TaskParams
    created_at: float
    #: The name of the model that it is for; empty: any.
    model: str = ""
    #: Whom it belongs to, for fair shares.
    client: str = ""
    #: Its client's share of the service, beside clients that have 1.
    weight: float = 1.0
    #: So many tasks of its client may run at once; 0: no bound.
    max_running: int = 0
    #: Of the request that it was asked for with, by which a repetition is known.
    digest: str = ""
    #: The queue's order: when it counts as submitted, and later the more work it is.
    due: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    #: Fencing number: counts claims; only the newest attempt may finish the task.
    attempt: int = 0
    #: How many times a worker group went down while this task was running.
    crashes: int = 0
    steps_done: int = 0
    pictures: tuple[str, ...] = ()
    #: When its pictures were deleted, if they were.
    expired_at: float | None = None
    error: str = ""
    #: Seconds by stage (encode, denoise, decode, save).
    timings: dict[str, float] = field(default_factory=dict)
    #: Steps that were not computed; none where every step had to be, or before the end.
    reused_steps: int | None = None
    #: Who is told of its end.
    webhook_url: str | None = None

    @property
    def arrived_at(self) -> float:
        """When it counts as submitted."""
        return self.created_at - self.params.priority.head_start_s

    @property
    def deadline_at(self) -> float | None:
        """When it is wanted."""
        deadline_s = self.params.deadline_s
        return None if deadline_s is None else self.created_at + deadline_s

    @property
    def progress(self) -> int:
        """Percent by real steps; 100 only when the pictures can be fetched."""
        if self.state is TaskState.COMPLETED:
            return 100
        return min(99, 100 * self.steps_done // self.params.total_steps)

    @property
    def processing_time(self) -> float | None:
        """Seconds from the start of the last attempt to the end, None before the end."""
        if self.started_at is None or self.completed_at is None:
            return None
        return self.completed_at - self.started_at
