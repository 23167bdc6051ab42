"""One attempt of a task inside a rank: its images, its progress, its seconds by stage."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hidream_server.ipc.messages import CancelTask, StartTask
from hidream_server.pipeline.denoise import ImageRun


@dataclass(slots=True)
class TaskRun:
    """A task that this rank is working on; `number` is its place in the order of arrival."""

    start: StartTask
    number: int
    images: list[ImageRun] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    #: When it was saved last, or begun.
    saved_at: float = field(default_factory=time.monotonic)
    #: It has been reported as failed, or was cancelled; nothing more is said of it.
    given_up: bool = False

    def is_in(self, unwanted: Sequence[CancelTask]) -> bool:
        """Whether this attempt is among those."""
        mine = CancelTask(task_id=self.start.task_id, attempt=self.start.attempt)
        return mine in unwanted

    @property
    def steps_done(self) -> int:
        return sum(image.steps_done for image in self.images)

    @property
    def steps_left(self) -> int:
        return self.start.params.total_steps - self.steps_done

    @property
    def next_image(self) -> int:
        """The image whose step is next: they are painted one after the other."""
        return next(index for index, image in enumerate(self.images) if not image.finished)

    @property
    def finished(self) -> bool:
        return all(image.finished for image in self.images)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start
