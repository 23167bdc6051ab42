"""The whole protocol between a supervisor and its ranks, grouped by direction.

Commands are imperative, events past tense. How they travel is the channel's business.
"""

from msgspec import Struct

from hidream_server.task import TaskParams


class Message(Struct, frozen=True, kw_only=True, tag=True):
    """Base of everything that is said."""


class Profile(Message, frozen=True, kw_only=True):
    """What the ranks learn about a model when they first load it; kept for later starts."""

    #: Seconds of a step: by image tokens, then by rows.
    step_s: dict[int, dict[int, float]]
    #: Seconds that a picture takes beside its steps, by image tokens.
    beside_s: dict[int, float]
    #: How unfinished latents look: for each channel, and last for a constant, its share of red,
    #: green and blue.
    preview_map: list[list[float]]


# From the supervisor to the ranks


class LoadModel(Message, frozen=True, kw_only=True):
    """Load this model and get warm; the first command of a group's life."""

    model_path: str
    extra_model_path: str | None
    device_type: str
    #: How the ranks split the work, like tp4-ep2.
    layout: str
    #: Text encoders that wait in the host's memory, by component name.
    offloaded_encoders: list[str]
    log_level: str
    prompt_cache_bytes: int
    #: Seconds between two checkpoints of a task; 0 for none.
    checkpoint_s: float
    #: The network's blocks are to be compiled.
    compile: bool
    #: Expected relative change of the network's output up to which tasks for Performance take
    #: steps without a forward; 0 for none.
    step_cache: float
    #: Forwards of tasks for Performance multiply in fp8.
    fp8: bool
    #: Most rows that may share a step.
    max_rows: int
    #: Most image tokens, over all rows of a step, that there is memory for.
    max_row_tokens: int
    #: None: it is to be found out.
    profile: Profile | None = None


class LoadProject(Message, frozen=True, kw_only=True):
    """Let this project paint; the first command to a group that runs one."""

    project_path: str
    #: Folder for its files.
    work_path: str
    model_path: str
    extra_model_path: str | None
    layout: str
    log_level: str


class StartTask(Message, frozen=True, kw_only=True):
    """Run this attempt of a task."""

    task_id: str
    attempt: int
    #: When the task counts as submitted, in seconds since the epoch.
    arrived_at: float
    params: TaskParams
    #: Whom it belongs to, for fair shares.
    client: str = ""
    weight: float = 1.0
    #: When its steps must be done, in seconds since the epoch, if it has a deadline.
    steps_by: float | None = None
    #: What a rank said of it last, if it is to go on from there.
    checkpoint: bytes | None = None


class CancelTask(Message, frozen=True, kw_only=True):
    """Work no more on this attempt; nothing need be said of it either."""

    task_id: str
    attempt: int


class Stop(Message, frozen=True, kw_only=True):
    """Leave now; unfinished tasks are the supervisor's to hand back."""


Command = LoadModel | LoadProject | StartTask | CancelTask | Stop


# From the ranks to the supervisor


class Hello(Message, frozen=True, kw_only=True):
    """A rank has connected; the token proves that the supervisor started it."""

    token: str
    rank: int


class GroupReady(Message, frozen=True, kw_only=True):
    """The model is loaded and warm; memory is what the device holds now, in bytes."""

    load_s: float
    memory_bytes: int
    #: What is known of the model now; nothing where a project paints.
    profile: Profile | None = None


class LoadFailed(Message, frozen=True, kw_only=True):
    """The model could not be loaded."""

    reason: str


class TaskBegun(Message, frozen=True, kw_only=True):
    """The ranks are about to work on this attempt; what goes wrong from now on may be its doing."""

    task_id: str
    attempt: int


class StepDone(Message, frozen=True, kw_only=True):
    """A task has finished so many steps, counted over all its images."""

    task_id: str
    attempt: int
    steps_done: int
    #: Of the step that it shared with others; no rows: not known, or there was no forward.
    rows: int = 0
    step_s: float = 0.0
    #: Of the tasks that shared it, one is named first.
    first: bool = True


class Checkpoint(Message, frozen=True, kw_only=True):
    """What a task needs to go on from where it is now."""

    task_id: str
    attempt: int
    data: bytes


class ImageDone(Message, frozen=True, kw_only=True):
    """One image of a task, encoded as a PNG file."""

    task_id: str
    attempt: int
    image_index: int
    data: bytes


class Preview(Message, frozen=True, kw_only=True):
    """How an unfinished image of a task looks, encoded as a small PNG file."""

    task_id: str
    attempt: int
    image_index: int
    data: bytes


class TaskDone(Message, frozen=True, kw_only=True):
    """All images of this attempt have been sent; timings are seconds by stage."""

    task_id: str
    attempt: int
    timings: dict[str, float]
    #: How many steps took no forward; none: every step had to.
    reused_steps: int | None = None


class TaskFailed(Message, frozen=True, kw_only=True):
    """This attempt cannot be finished, but the group is well."""

    task_id: str
    attempt: int
    reason: str


class RankUsage(Message, frozen=True, kw_only=True):
    """What a rank has used, said now and then whatever its steps do."""

    rank: int
    #: Most memory that it has held since it was started, in bytes.
    peak_memory_bytes: int
    #: Prompts whose embeddings it looked for in its cache since it said so last, and found there.
    prompts: int
    prompts_cached: int


class LogLine(Message, frozen=True, kw_only=True):
    """A line for the server's log; `level` is logging's number."""

    rank: int
    level: int
    logger: str
    text: str
    task_id: str | None


Event = (
    Hello
    | GroupReady
    | LoadFailed
    | TaskBegun
    | StepDone
    | Checkpoint
    | ImageDone
    | Preview
    | TaskDone
    | TaskFailed
    | RankUsage
    | LogLine
)

#: Any message at all, for type annotations of the channel.
AnyMessage = Command | Event
