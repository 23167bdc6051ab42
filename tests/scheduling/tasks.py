"""Tasks for the tests of the policy, and a server that runs them."""

from collections.abc import Sequence

from hidream_server.scheduling.active_task import ActiveTask
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.simulator import Policy, first_come, serve
from hidream_server.scheduling.widths import Widths

#: Four rows of either shape take 4 / 1.7 times as long as one.
PROFILE = {
    shape: {1: step_s, 2: 2 * step_s / 1.4, 4: 4 * step_s / 1.7}
    for shape, step_s in ((64, 1.0), (256, 4.0))
}
PACE = Pace(PROFILE)
ALONE = Widths({}, most=1)
SHARED = Widths(PROFILE, most=4)
#: How much longer a forward of the full width takes than that of one image.
STRETCH = 4 / 1.7


def task(number: int, steps: int | tuple[int, ...], **about) -> ActiveTask:
    """Return a task of one image, or of several with so many steps left each."""
    image_steps = (steps,) if isinstance(steps, int) else steps
    shape, rows = about.pop("shape", 64), about.pop("image_rows", 1)
    step_s = PACE.step_s(shape, rows)
    return ActiveTask(
        number=number,
        arrived_s=about.pop("arrived_s", 0.0),
        step_s=step_s,
        image_steps=image_steps,
        total_s=about.pop("total_s", sum(image_steps) * step_s),
        shape=shape,
        image_rows=rows,
        **about,
    )


def run(tasks: Sequence[ActiveTask], widths: Widths = ALONE) -> dict[int, float]:
    """Return when each ends on a server that has a place for every one."""
    return serve(tasks, Policy("", first_come, len(tasks), widths), PACE)
