"""Which images the next forward steps; pure numbers, no clock, no device.

Deadlines just in time, clients by fair shares, a client's short work first; images of the same
token count share the forward. Asked anew at every step edge: an image's state is a few megabytes.
"""

from collections.abc import Iterable, Sequence
from math import inf

from hidream_server.scheduling.active_task import ActiveTask, Share
from hidream_server.scheduling.deadlines import latest_start, promised
from hidream_server.scheduling.shares import FairShares
from hidream_server.scheduling.widths import Widths

#: A second of age counts as much as so many seconds of remaining work. At 1 it would be little else
#: than first come, first served, as soon as tasks wait for longer than they take.
AGEING = 0.1
#: A task shares the forward of one that takes at least this part of its own time. Sharing among
#: equals pays for all, as the time per row falls; a long task in a short one's forward gains
#: little, and the short one waits for it at every step.
_LEAST_LEADER = 0.5


def next_step(
    active: Iterable[ActiveTask], widths: Widths, shares: FairShares, now: float
) -> list[Share]:
    """Return who takes part in the next forward, the leader first; nobody if no task is active.

    1. If any other forward would come too late for a deadline, the earliest one leads, by itself.
    2. Else one of the clients leads that have passed no other by more than that one's shortest task
       takes; priority lets a client run ahead by its head start. Of all their tasks it is the one
       with the least remaining work plus AGEING times its arrival.
    3. The row budget is filled up with the leader's own images, then in the same order with tasks
       of its token count that are not much longer, and compute in fp8 if it does.

    Nobody starves. Of one client, a task with R seconds left is led by none that comes later than
    R / AGEING after it: it is done, at the latest, when it and all work that came before that time
    are done, each second of it stretched at most by what the row budget adds to the forward of one
    image. Each of n active clients gets 1/n of the seconds, up to its shortest task, a step and a
    forward; priority shifts that by its head start, once each time a client becomes active.
    Deadlines delay others by no more than the work that came with deadlines.

    Source: Schrage, "A proof of the optimality of the shortest remaining processing time
    discipline", Operations Research 16(3), 1968; the ageing and the sharing are ours.
    """
    tasks = list(active)
    line = _line(tasks, shares)
    if not line:
        return []
    step = _fill(line, widths)
    due = promised(tasks, now)
    if due and now + alone_s(step, tasks) > latest_start(due):
        # Company would slow it down; its own images, together, are only faster.
        return _fill([(0.0, due[0])], widths)
    return step


def charge(step: Sequence[Share], shares: FairShares, seconds: float) -> None:
    """Charge the clients for a forward, each for its rows, and by its weight."""
    rows = sum(share.rows for share in step)
    for share in step:
        shares.charge(share.client, seconds * share.rows / rows / share.weight)


def alone_s(step: Sequence[Share], tasks: Iterable[ActiveTask]) -> float:
    """Return the seconds that a forward takes at most: those of its images one by one."""
    step_s = {task.number: task.step_s for task in tasks}
    return sum(share.images * step_s[share.number] for share in step)


def order(task: ActiveTask) -> tuple[float, int]:
    """Sort a client's tasks by this: short work first, with ageing."""
    return (task.remaining_s + AGEING * task.arrived_s, task.number)


def _line(tasks: Sequence[ActiveTask], shares: FairShares) -> list[tuple[float, ActiveTask]]:
    """Return the tasks in the order in which they may lead, each with its client's tag.

    Clients stand level until one is passed by as much as its own shortest task takes: turns step by
    step would make all tasks late alike, where short ones could be done without harm to long ones.
    """
    head_starts: dict[str, float] = {}
    shortest: dict[str, float] = {}
    for task in tasks:
        client = task.client
        head_starts[client] = max(task.head_start_s, head_starts.get(client, -inf))
        shortest[client] = min(task.total_s / task.weight, shortest.get(client, inf))
    tags = shares.start_tags(head_starts)
    level = min((tag + shortest[client] for client, tag in tags.items()), default=0.0)
    line = [(max(level, tags[task.client]), task) for task in tasks]
    return sorted(line, key=lambda entry: (entry[0], order(entry[1])))


def _fill(line: Sequence[tuple[float, ActiveTask]], widths: Widths) -> list[Share]:
    """Give the rows of a forward to the first in line and those after it who may join."""
    lead_tag, leader = line[0]
    room = max(widths.rows(leader.shape), leader.image_rows)
    step: list[Share] = []
    for tag, task in line:
        alike = (task.shape, task.fp8) == (leader.shape, leader.fp8)
        fits = alike and _LEAST_LEADER * task.total_s <= leader.total_s
        # A client that is ahead by more than a step has had its share; rows given to it here would
        # slow down one that has not.
        if fits and tag <= lead_tag + leader.step_s:
            images = min(task.images_left, room // task.image_rows)
            if images:
                rows = images * task.image_rows
                step.append(Share(task.number, images, rows, task.client, task.weight))
                room -= rows
    return step
