"""Bodies of requests and answers: names and types. Ranges are the business of `limits`."""

import math
import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hidream_server.api.following import Followed
from hidream_server.api.links import Links
from hidream_server.task import InferType, Priority, TaskParams, TaskState, is_task_id

#: Control characters other than tab and line ends, and lone surrogates, which no file can carry.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def _printable(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise PydanticCustomError("unprintable", "valid Unicode text without control characters")
    return text


def _task_id(text: str) -> str:
    """Return a UUID in its usual form."""
    if not is_task_id(text.lower()):
        raise PydanticCustomError("uuid", "a UUID, like 3f0d6a1e-9c1b-4e57-8a44-0b6f6d2f9c11")
    return text.lower()


Text = Annotated[str, AfterValidator(_printable)]
TaskId = Annotated[str, AfterValidator(_task_id)]


class GenerationRequest(BaseModel):
    """What to paint. Fields that are left out take the defaults of the served model."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: Text = Field(examples=["A beautiful landscape with mountains and lakes at sunset"])
    negative_prompt: Text = Field("", description="What to keep out; used when guided.")
    resolution: str = Field("1024x1024", description="WIDTHxHEIGHT in pixels, delivered exactly.")
    num_inference_steps: int | None = Field(
        None, description="Denoising steps; default by variant: Full 50, Dev 28, Fast 16."
    )
    guidance_scale: float | None = Field(
        None,
        description="Above 1 the image is guided; default by variant: Full 5.0, Dev and Fast 0.",
    )
    num_images_per_prompt: int = Field(1, description="Images; image j uses seed + j.")
    seed: int | None = Field(None, description="Same seed, same picture; drawn if left out.")
    batch_size: int = Field(1, description="Of the first version; accepted, changes nothing.")
    infer_type: InferType = Field(
        InferType.ACCURACY,
        strict=False,
        description="Profiling adds the seconds of each stage to the status. Performance may be"
        " quicker and less exact, if the server has options for that: `lossy` in /limits.",
    )
    priority: Priority = Field(
        Priority.NORMAL,
        strict=False,
        description="high counts as submitted ten minutes earlier, low as an hour later.",
    )
    deadline_s: float | None = Field(
        None,
        description="Wanted after so many seconds; refused if that cannot be. Such a task passes"
        " others where it must.",
    )
    num_previews: int = Field(
        0, description="Pictures of each unfinished image, to be had at /preview/{task_id}."
    )
    task_id: TaskId | None = Field(
        None,
        description="A UUID of your own for the task, so that a submission may be repeated; the"
        " same id with another body is refused.",
    )
    webhook_url: str | None = Field(
        None, description="Where to tell the task's end, signed; an http or https URL."
    )


class BatchRequest(BaseModel):
    """Several requests, accepted all or none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    requests: list[GenerationRequest]
    webhook_url: str | None = Field(None, description="For those requests that have none.")

    def each(self) -> list[GenerationRequest]:
        """Return the requests, each with its own webhook_url."""
        shared = {} if self.webhook_url is None else {"webhook_url": self.webhook_url}
        return [
            request if request.webhook_url is not None else request.model_copy(update=shared)
            for request in self.requests
        ]


class SubmitAnswer(BaseModel):
    """An accepted task."""

    task_id: str
    #: The name of task_id in the first version.
    requestId: str
    status: TaskState
    estimated_time: float = Field(description="Seconds until the pictures are there.")
    queue_position: int = Field(description="How many queued tasks are before it.")
    message: str


class Asked(BaseModel):
    """What a task was asked to paint, every default filled in."""

    prompt: str
    negative_prompt: str
    resolution: str
    num_inference_steps: int
    guidance_scale: float
    num_images_per_prompt: int
    seed: int
    infer_type: InferType
    priority: Priority
    deadline_s: float | None
    num_previews: int

    @classmethod
    def of(cls, params: TaskParams) -> "Asked":
        return cls(
            prompt=params.prompt,
            negative_prompt=params.negative_prompt,
            resolution=f"{params.width}x{params.height}",
            num_inference_steps=params.num_inference_steps,
            guidance_scale=params.guidance_scale,
            num_images_per_prompt=params.num_images,
            seed=params.seed,
            infer_type=params.infer_type,
            priority=params.priority,
            deadline_s=params.deadline_s,
            num_previews=params.num_previews,
        )


class StatusAnswer(BaseModel):
    """How a task is doing."""

    task_id: str
    requestId: str
    status: TaskState
    progress: int = Field(description="Percent by real steps; 100 when the pictures are there.")
    estimated_time: float | None = Field(
        description="Seconds until the pictures are there; none once the task has ended."
    )
    queue_position: int | None = Field(description="How many queued tasks are before a queued one.")
    result_urls: list[str]
    pictures_expired: bool = Field(description="They were there, and were deleted since.")
    error: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    processing_time: float | None = Field(description="Seconds from start to end.")
    attempt: int = Field(description="How often the task has been started; above 1 after a loss.")
    seeds: list[int] = Field(description="The seed of each image.")
    timings: dict[str, float] | None = Field(description="Seconds by stage, for Profiling.")
    reused_steps: int | None = Field(
        description="Steps of all images that were not computed, at the end of a Performance task"
        " on a server with a step cache; none where every step was."
    )
    request: Asked = Field(description="What was asked for, with every default filled in.")

    @classmethod
    def of(cls, followed: Followed, links: Links) -> "StatusAnswer":
        task, left_s = followed.task, followed.seconds_left
        expired = task.expired_at is not None
        profiling = task.params.infer_type is InferType.PROFILING
        return cls(
            task_id=task.id,
            requestId=task.id,
            status=task.state,
            progress=task.progress,
            estimated_time=None if left_s is None else tenths(left_s),
            queue_position=followed.position,
            result_urls=[] if expired else [links.picture(name) for name in task.pictures],
            pictures_expired=expired,
            error=task.error,
            created_at=_utc(task.created_at),
            started_at=None if task.started_at is None else _utc(task.started_at),
            completed_at=None if task.completed_at is None else _utc(task.completed_at),
            processing_time=task.processing_time,
            attempt=task.attempt,
            seeds=task.params.seeds,
            timings=task.timings if profiling else None,
            reused_steps=task.reused_steps,
            request=Asked.of(task.params),
        )


class TaskList(BaseModel):
    """A page of tasks, the latest first."""

    tasks: list[StatusAnswer]
    next_cursor: int | None = Field(description="Where the next page begins; none: it is the last.")


def tenths(seconds: float) -> float:
    """Round up: nothing takes no time at all."""
    return math.ceil(10 * seconds) / 10


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class ModelAnswer(BaseModel):
    name: str
    variant: str
    sampler: str
    demo: bool
    notice: str | None


class DeviceAnswer(BaseModel):
    type: str
    ids: list[int]
    dtype: str
    memory_bytes: int | None


class HealthAnswer(BaseModel):
    """How the service is doing; the first five fields are the first version's."""

    status: str
    pipeline_ready: bool
    queue_length: int
    active_tasks: int
    total_tasks: int
    reason: str
    since: datetime
    version: str
    model: ModelAnswer
    executor: str
    device: DeviceAnswer | None = Field(description="Of the first group; none if there is none.")
    layout: str
    wanted_layout: str
    replicas: int
    replicas_ready: int


class RootAnswer(BaseModel):
    message: str
    status: str
    version: str
    docs: str


class ProblemAnswer(BaseModel):
    """One field that is not acceptable."""

    field: str
    value: object
    allowed: str


class ErrorBody(BaseModel):
    code: str
    message: str
    problems: list[ProblemAnswer] = []


class ErrorAnswer(BaseModel):
    """The one shape of every error."""

    error: ErrorBody
