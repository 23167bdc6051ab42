"""What users might ask for: a mix of kinds of task, coming at random times; drawn from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hidream_server.scheduling.active_task import ActiveTask
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.widths import Profile

#: Pixels along each side of an image token.
TOKEN_SIDE = 16

#: Assumed, not measured: small pictures leave a card idle between operators, large ones fill it.
PROFILE: Profile = {
    1024: {1: 0.050, 2: 0.070, 4: 0.120, 8: 0.225},
    3072: {1: 0.110, 2: 0.205, 4: 0.400},
    4096: {1: 0.150, 2: 0.290},
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of task."""

    #: Pixels.
    width: int
    height: int
    steps: int
    guided: bool
    images: int = 1

    @property
    def shape(self) -> int:
        return (self.width // TOKEN_SIDE) * (self.height // TOKEN_SIDE)

    def task(self, number: int, arrived_s: float, client: str, pace: Pace) -> ActiveTask:
        rows = 2 if self.guided else 1
        step_s = pace.step_s(self.shape, rows)
        return ActiveTask(
            number=number,
            arrived_s=arrived_s,
            step_s=step_s,
            image_steps=(self.steps,) * self.images,
            total_s=self.steps * self.images * step_s,
            shape=self.shape,
            image_rows=rows,
            client=client,
            weight=1.0,
        )


#: The documented sizes, each as the Fast, Dev and Full variants paint it by default.
MIX = tuple(
    Kind(width, height, steps, guided)
    for width, height in ((1024, 1024), (1024, 768), (768, 1024), (512, 512))
    for steps, guided in ((16, False), (28, False), (50, True))
)


def draw(
    mix: Sequence[Kind], pace: Pace, load: float, tasks: int, clients: int, seed: int
) -> list[ActiveTask]:
    """Return Poisson arrivals of kinds drawn with equal chances, from second 0 on.

    `load` is the work that comes, in seconds of a server that runs image after image, per second.
    """
    random = Random(seed)
    mean_s = sum(kind.task(0, 0.0, "", pace).total_s for kind in mix) / len(mix)
    now, drawn = 0.0, []
    for number in range(tasks):
        client = f"client {random.randrange(clients)}"
        drawn.append(random.choice(mix).task(number, now, client, pace))
        now += random.expovariate(load / mean_s)
    return drawn
