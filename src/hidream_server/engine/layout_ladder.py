"""Which layout the next group is started with: down after failures, up again after a while.

Pure bookkeeping with a clock; starts nothing.
"""

import time
from collections.abc import Callable, Sequence

from hidream_server.layouts.layout import Layout


class LayoutLadder:
    """The layouts from the wanted one down to one device, and where on it the group stands."""

    def __init__(
        self,
        rungs: Sequence[Layout],
        tries: int,
        cool_down_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A layout is left after `tries` failures in a row; a larger one is tried again after
        `cool_down_s`, each time it fails after twice as long.
        """
        self._rungs = list(rungs)
        self._tries = tries
        self._first_cool_down_s = self._cool_down_s = cool_down_s
        self._clock = clock
        self._place = 0
        self._failures = 0
        self._climbing = False
        self._climb_at = 0.0

    @property
    def layout(self) -> Layout:
        return self._rungs[self._place]

    @property
    def wanted(self) -> Layout:
        return self._rungs[0]

    @property
    def degraded(self) -> bool:
        return self._place > 0

    def failed(self, to_the_last: bool = False) -> bool:
        """Take note of a failure; return whether a smaller layout comes next.

        With `to_the_last` that is the last one at once: a task has lost two groups, and whether it
        or the layouts are at fault is found out on one device.

        Where even the last one fails, perhaps because one device cannot hold the model, a larger
        one gets its turn after the cool-down: nothing else would end that.
        """
        self._failures += 1
        tries = 1 if self._climbing or to_the_last else self._tries
        if self._failures < tries:
            return False
        if self._place == len(self._rungs) - 1:
            if self.may_climb:
                self.climb()
            return False
        if self._climbing:
            self._cool_down_s *= 2
        last = len(self._rungs) - 1
        self._move(last if to_the_last else self._place + 1, climbing=False)
        return True

    def proved(self) -> None:
        """Take note that the layout has finished a task: failures before it count no more."""
        self._failures = 0
        if self._climbing:
            self._climbing = False
            self._cool_down_s = self._first_cool_down_s

    @property
    def may_climb(self) -> bool:
        return self.degraded and self._clock() >= self._climb_at

    @property
    def must_climb(self) -> bool:
        """It has waited for an idle moment as long again as it had to wait at all."""
        return self.degraded and self._clock() >= self._climb_at + self._cool_down_s

    def climb(self) -> None:
        """Make the next larger layout the one to start with."""
        self._move(self._place - 1, climbing=True)

    def pardon(self) -> None:
        """What went wrong was not the layouts' fault: start with the wanted one again."""
        self._move(0, climbing=self.degraded)

    def _move(self, place: int, climbing: bool) -> None:
        self._place = place
        self._failures = 0
        self._climbing = climbing
        self._climb_at = self._clock() + self._cool_down_s
