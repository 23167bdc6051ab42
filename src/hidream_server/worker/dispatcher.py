"""Rank 0's mind: what comes in, what is known of step times, and what the next turn is made of.

Knows tasks, numbers and messages; whatever is decided here, all ranks do it elsewhere.
"""

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hidream_server.ipc.messages import CancelTask, Command, StartTask, Stop
from hidream_server.scheduling.active_task import ActiveTask, Share
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.policy import charge, next_step
from hidream_server.scheduling.shares import FairShares
from hidream_server.scheduling.widths import Widths
from hidream_server.worker.task_run import TaskRun
from hidream_server.worker.turn import Turn


@dataclass(frozen=True, slots=True)
class Encoded:
    """A task's prompts are encoded, or it is known that they cannot be."""

    number: int


class Dispatcher:
    """Turns commands and finished work into turns."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` is the one by which tasks arrive."""
        self._clock = clock
        self._inbox: queue.SimpleQueue[Command | Encoded] = queue.SimpleQueue()
        self._shares = FairShares()

    def know(self, pace: Pace, widths: Widths) -> None:
        """Learn what the profile of the model says, before the first turn."""
        self._pace, self._widths = pace, widths

    def tell(self, what: Command | Encoded) -> None:
        """Take in what has happened; from any thread."""
        self._inbox.put(what)

    def decide(self, runs: Mapping[int, TaskRun]) -> Turn:
        """Return the next turn; wait for news if there is nothing to run."""
        turn = Turn()
        while not self._inbox.empty() or not (runs or turn.is_news):
            match self._inbox.get():
                case Stop():
                    return Turn(leave=True)
                case StartTask() as start:
                    turn.admit.append(start)
                case CancelTask() as unwanted:
                    turn.cancel.append(unwanted)
                case Encoded(number):
                    turn.begin.append(number)
        if turn.begin:
            # How far it is will be known in the next turn: what begins must not wait for a step.
            return turn
        left = [run for run in runs.values() if not run.is_in(turn.cancel)]
        if reuse := [(run.number, index) for run in left for index in run.reusing]:
            # Nobody waits for a forward of theirs; whose turn it is is asked when none is left.
            return replace(turn, reuse=reuse)
        active = [self._active(run) for run in left]
        return replace(turn, step=next_step(active, self._widths, self._shares, self._clock()))

    def stepped(self, runs: Sequence[TaskRun], seconds: float) -> None:
        """Take note of how long a step took; each image of a run in it is named once."""
        step = [
            Share(run.number, 1, run.image_rows, run.start.client, run.start.weight) for run in runs
        ]
        rows = sum(share.rows for share in step)
        self._pace.measured(runs[0].tokens, rows, seconds, runs[0].fp8)
        charge(step, self._shares, seconds)

    def too_wide(self, runs: Sequence[TaskRun]) -> None:
        """Take note that there was no memory for a step of so many rows."""
        self._widths.limit(runs[0].tokens, sum(run.image_rows for run in runs))

    def _active(self, run: TaskRun) -> ActiveTask:
        return ActiveTask.of(
            run.start.params,
            number=run.number,
            arrived_s=run.start.arrived_at,
            image_steps=run.image_steps,
            shape=run.tokens,
            fp8=run.fp8,
            pace=self._pace,
            client=run.start.client,
            weight=run.start.weight,
            deadline_s=run.start.steps_by,
        )
