"""What is known of a task that has steps left, and its part of a step; numbers only."""

from dataclasses import dataclass, replace

from hidream_server.scheduling.pace import Pace
from hidream_server.task import TaskParams


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveTask:
    """A task that has steps left."""

    #: Its place in the order of arrival.
    number: int
    #: When it counts as submitted, seconds since the epoch; its priority's head start is in it.
    arrived_s: float
    #: What priority took off `arrived_s`, to weigh clients against each other.
    head_start_s: float = 0.0
    #: Seconds of one step of one image by itself.
    step_s: float
    #: Steps left of each unfinished image, in the order in which images are taken up.
    image_steps: tuple[int, ...]
    #: Seconds that the whole task takes by itself, from its first step.
    total_s: float
    #: Token count; images that have it in common may share a forward.
    shape: int
    #: Its forwards multiply in fp8, and are shared with none that do not.
    fp8: bool = False
    #: Rows of an image: 1, or 2 when it is guided.
    image_rows: int
    #: Whom it belongs to, and that one's share of the service beside clients that have 1.
    client: str = ""
    weight: float = 1.0
    #: Seconds since the epoch.
    deadline_s: float | None = None

    @classmethod
    def of(
        cls,
        params: TaskParams,
        *,
        number: int,
        arrived_s: float,
        image_steps: tuple[int, ...],
        shape: int,
        fp8: bool,
        pace: Pace,
        client: str,
        weight: float,
        deadline_s: float | None,
    ) -> "ActiveTask":
        """Return what is known of a task from what was asked for, as it has come so far."""
        step_s = pace.step_s(shape, params.image_rows, fp8)
        return cls(
            number=number,
            arrived_s=arrived_s,
            head_start_s=params.priority.head_start_s,
            step_s=step_s,
            image_steps=image_steps,
            total_s=params.total_steps * step_s,
            shape=shape,
            fp8=fp8,
            image_rows=params.image_rows,
            client=client,
            weight=weight,
            deadline_s=deadline_s,
        )

    @property
    def steps_left(self) -> int:
        return sum(self.image_steps)

    @property
    def images_left(self) -> int:
        return len(self.image_steps)

    @property
    def remaining_s(self) -> float:
        """Seconds that the steps left take one by one; sharing forwards makes it less."""
        return self.steps_left * self.step_s

    def stepped(self, images: int, steps: int = 1) -> "ActiveTask":
        """Return the task after its next `images` took so many steps together."""
        left = [count - steps for count in self.image_steps[:images]]
        unfinished = tuple(count for count in left if count > 0)
        return replace(self, image_steps=unfinished + self.image_steps[images:])


@dataclass(frozen=True, slots=True)
class Share:
    """A task's part of a forward: so many of its next unfinished images."""

    number: int
    images: int
    rows: int
    client: str = ""
    weight: float = 1.0
