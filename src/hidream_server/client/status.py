"""How a task is doing, as the server says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hidream_server.task import TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """The answer of /status; times are seconds."""

    task_id: str
    state: TaskState
    #: Percent, by real steps.
    progress: int
    #: Until the pictures are there; none once the task has ended.
    seconds_left: float | None
    #: How many queued tasks are before a queued one.
    queue_position: int | None
    error: str
    #: Of each image.
    seeds: tuple[int, ...]
    picture_urls: tuple[str, ...]
    processing_s: float | None
    #: What was asked for, with every default filled in.
    request: Mapping[str, Any]
    #: The whole answer, with what later versions may add.
    answer: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "TaskStatus":
        return cls(
            task_id=answer["task_id"],
            state=TaskState(answer["status"]),
            progress=answer["progress"],
            seconds_left=answer["estimated_time"],
            queue_position=answer["queue_position"],
            error=answer["error"],
            seeds=tuple(answer["seeds"]),
            picture_urls=tuple(answer["result_urls"]),
            processing_s=answer["processing_time"],
            request=answer["request"],
            answer=answer,
        )

    @property
    def step(self) -> tuple[int, int]:
        """Steps done, and steps in all, over all images."""
        steps = self.request["num_inference_steps"] * self.request["num_images_per_prompt"]
        return round(steps * self.progress / 100), steps
