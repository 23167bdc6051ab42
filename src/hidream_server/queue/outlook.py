"""When tasks will be done, by the very policy that will run them.

Learns from the step times that worker groups measure; knows nothing of storage or messages.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from hidream_server.scheduling.active_task import ActiveTask
from hidream_server.scheduling.forecast import Group, forecast
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.shares import FairShares
from hidream_server.scheduling.widths import Widths
from hidream_server.task import Task, TaskParams, TaskState

#: Weight of the latest task in the average of what tasks take beside their steps.
_NEWEST = 0.2


class Outlook:
    """What the server side knows of how long things take; may be used from any thread."""

    def __init__(
        self,
        tokens: Callable[[TaskParams], int],
        places: int,
        max_rows: int,
        lanes: int = 1,
        fp8: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """A worker group has `places` for tasks, and there are `lanes` groups.

        With `fp8` they compute tasks for Performance in that.
        """
        self._tokens = tokens
        self._places, self._lanes, self._max_rows = places, lanes, max_rows
        self._fp8 = fp8
        self._clock = clock
        self._lock = threading.Lock()
        self._steps_done: dict[str, int] = {}
        #: Seconds that a task takes beside its steps, by image tokens.
        self._beside_s: dict[int, float] = {}
        self._pace = Pace()
        self._widths = Widths({}, most=max_rows)

    def know(
        self, step_s: Mapping[int, Mapping[int, float]], beside_s: Mapping[int, float]
    ) -> None:
        """Learn what the profile of the model says.

        Seconds of steps by image tokens, then by rows; seconds beside them by image tokens. What
        was measured while serving counts more.
        """
        with self._lock:
            self._pace.learn(step_s)
            self._beside_s = {**beside_s, **self._beside_s}
            self._widths = Widths(step_s, most=self._max_rows)

    def believe(
        self,
        step_s: Mapping[int, Mapping[int, float]],
        beside_s: Mapping[int, float],
        fp8_ratio: float | None = None,
    ) -> None:
        """Take what a group of another process says for all that is known."""
        with self._lock:
            self._pace = Pace(step_s, fp8_ratio)
            self._beside_s = dict(beside_s)
            self._widths = Widths(step_s, most=self._max_rows)

    def known(self) -> tuple[dict[int, dict[int, float]], dict[int, float]]:
        """Return the seconds of steps by image tokens and rows, and beside them by tokens."""
        with self._lock:
            return self._pace.known, dict(self._beside_s)

    @property
    def fp8_ratio(self) -> float | None:
        """What forwards in fp8 take, over exact ones; None where nobody knows."""
        with self._lock:
            return self._pace.fp8_ratio

    def count_groups(self) -> int:
        """Return how many groups there are."""
        with self._lock:
            return self._lanes

    def spread_over(self, lanes: int) -> None:
        """From now on there are so many groups."""
        with self._lock:
            self._lanes = lanes

    def stepped(self, task: Task, steps_done: int, rows: int, seconds: float) -> None:
        """Take note of a step that a task shared, of so many rows in all; 0: nobody knows."""
        with self._lock:
            if rows:
                tokens, fp8 = self._tokens(task.params), self._in_fp8(task.params)
                self._pace.measured(tokens, rows, seconds, fp8)
            self._steps_done[task.id] = steps_done

    def completed(self, task: Task, beside_s: float) -> None:
        """Take note of what a task, alone on its group, took beside its steps."""
        tokens = self._tokens(task.params)
        with self._lock:
            before = self._beside_s.get(tokens, beside_s)
            self._beside_s[tokens] = before + _NEWEST * (beside_s - before)

    def forget(self, task_id: str) -> None:
        """A task is not running any more."""
        with self._lock:
            self._steps_done.pop(task_id, None)

    def alone_s(self, params: TaskParams) -> float:
        """Return how long a task's steps take if it has a worker group to itself."""
        with self._lock:
            return params.total_steps * self._step_s(params)

    def seconds_left(self, tasks: Sequence[Task]) -> dict[str, float]:
        """Return when each of these will be done, if no more come; in the order of the queue."""
        with self._lock:
            running = [task for task in tasks if task.state is TaskState.PROCESSING]
            queued = [task for task in tasks if task.state is TaskState.QUEUED]
            found: dict[str, float] = {}
            for lane in range(self._lanes):
                found |= self._lane(running[lane :: self._lanes], queued[lane :: self._lanes])
            return found

    def _lane(self, running: Sequence[Task], queued: Sequence[Task]) -> dict[str, float]:
        tasks = [*running, *queued]
        active = [self._active(number, task) for number, task in enumerate(tasks)]
        group = Group(self._widths, self._pace, FairShares(), self._places)
        left = forecast(active[: len(running)], active[len(running) :], group, self._clock())
        return {
            task.id: left[number] + self._beside(task.params) for number, task in enumerate(tasks)
        }

    def _active(self, number: int, task: Task) -> ActiveTask:
        done = max(task.steps_done, self._steps_done.get(task.id, 0))
        return ActiveTask.of(
            task.params,
            number=number,
            arrived_s=task.arrived_at,
            image_steps=_image_steps(task.params, done),
            shape=self._tokens(task.params),
            fp8=self._in_fp8(task.params),
            pace=self._pace,
            client=task.client,
            weight=task.weight,
            deadline_s=self._steps_by(task),
        )

    def steps_by(self, task: Task) -> float | None:
        """Return when a task's steps must be done for it to be in time, if it has a deadline."""
        with self._lock:
            return self._steps_by(task)

    def _steps_by(self, task: Task) -> float | None:
        return None if task.deadline_at is None else task.deadline_at - self._beside(task.params)

    def _beside(self, params: TaskParams) -> float:
        """Return what a task takes beside its steps; scaled from the nearest that is known."""
        if not self._beside_s:
            return 0.0
        tokens = self._tokens(params)
        nearest = min(self._beside_s, key=lambda known: (abs(known - tokens), known))
        return self._beside_s[nearest] * tokens / nearest

    def _step_s(self, params: TaskParams) -> float:
        tokens, fp8 = self._tokens(params), self._in_fp8(params)
        return self._pace.step_s(tokens, params.image_rows, fp8)

    def _in_fp8(self, params: TaskParams) -> bool:
        # Groups of other processes have options of their own.
        return params.may_be_lossy and (self._fp8 or self._pace.fp8_ratio is not None)


def _image_steps(params: TaskParams, done: int) -> tuple[int, ...]:
    """Return the steps left of each image, as if they were painted one after the other."""
    images, steps = divmod(done, params.num_inference_steps)
    left = [params.num_inference_steps] * (params.num_images - images)
    # The report of the last step may be here before the end of the task is written down.
    return (left[0] - steps, *left[1:]) if left else (1,)
