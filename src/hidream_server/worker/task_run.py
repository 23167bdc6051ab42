"""One attempt of a task inside a rank: its images, its progress, its seconds by stage."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from hidream_server.ipc.messages import CancelTask, StartTask
from hidream_server.pipeline.denoise import ImageRun


@dataclass(slots=True)
class TaskRun:
    """A task that this rank is working on; `number` is its place in the order of arrival."""

    start: StartTask
    number: int
    #: Image tokens as the network counts them.
    tokens: int
    #: Its images, and the seconds it took, once its prompts are encoded.
    coming: Future[tuple[list[ImageRun], float]]
    images: list[ImageRun] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    #: When it was saved last, or begun.
    saved_at: float = field(default_factory=time.monotonic)
    #: It has been reported as failed, or was cancelled; nothing more is said of it.
    given_up: bool = False

    def is_in(self, unwanted: Sequence[CancelTask]) -> bool:
        """Whether this attempt is among those."""
        return self.cancel in unwanted

    @property
    def cancel(self) -> CancelTask:
        """Return what is said to end this attempt."""
        return CancelTask(task_id=self.start.task_id, attempt=self.start.attempt)

    @property
    def image_rows(self) -> int:
        return self.start.params.image_rows

    @property
    def fp8(self) -> bool:
        """Its forwards multiply in fp8."""
        return any(image.fp8 for image in self.images)

    @property
    def steps_done(self) -> int:
        return sum(image.steps_done for image in self.images)

    @property
    def unfinished(self) -> list[int]:
        """The images that have steps left, in the order in which they are painted."""
        return [index for index, image in enumerate(self.images) if not image.finished]

    @property
    def reusing(self) -> list[int]:
        """The images whose next step needs no forward."""
        return [index for index in self.unfinished if self.images[index].reuses_next]

    @property
    def reused_steps(self) -> int | None:
        """How many steps needed none; None where every step has to be computed."""
        counts = [image.reused_steps for image in self.images]
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    @property
    def image_steps(self) -> tuple[int, ...]:
        """Steps left of each of those."""
        steps = self.start.params.num_inference_steps
        return tuple(steps - self.images[index].steps_done for index in self.unfinished)

    @property
    def finished(self) -> bool:
        return not self.unfinished

    def preview_due(self, index: int) -> bool:
        """Whether an image has just come as far as one of its previews, which lie evenly."""
        previews, steps = self.start.params.num_previews, self.start.params.num_inference_steps
        done = self.images[index].steps_done
        marks = {steps * mark // (previews + 1) for mark in range(1, previews + 1)}
        return done in marks - {0, steps}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start
