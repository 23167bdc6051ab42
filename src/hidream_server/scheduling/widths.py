"""How many rows a forward is given, by token count: as many as make a row cheaper, and fit.

Decided from a profile, step times measured at 1, 2, 4, ... rows; knows nothing of who measures.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import inf

#: Seconds of a forward, by its rows, by token count.
Profile = Mapping[int, Mapping[int, float]]

#: The widest forward that is ever tried, in rows.
WIDEST = 8
#: Twice the rows pay when the time per row falls by this share at least: less is within the noise,
#: and every row that is added makes all others wait.
_GAIN = 0.05


def profile(measure: Callable[[int], float], most: int) -> dict[int, float]:
    """Measure 1, 2, 4, ... rows until twice as many do not pay, none but the first above `most`.

    `measure` returns the seconds of a forward of so many rows, infinity where memory is too small.
    """
    seconds: dict[int, float] = {}
    rows = 1
    while rows <= max(1, min(most, WIDEST)) and (took := measure(rows)) < float("inf"):
        seconds[rows] = took
        if rows > 1 and not _pays(seconds, rows // 2, rows):
            break
        rows *= 2
    return seconds


class Widths:
    """The row budget of each token count, never more than `most`; 1 is one image a step.

    There may be no room for a forward of more than `most_tokens` image tokens.
    """

    def __init__(self, profile: Profile, most: int, most_tokens: float = inf) -> None:
        self._most = most
        self._most_tokens = most_tokens
        self._profiled = {shape: _widest(seconds) for shape, seconds in profile.items()}
        self._limits: dict[int, int] = {}

    def rows(self, shape: int) -> int:
        """Return how many rows of this token count a forward may have."""
        limits = (rows for limited, rows in self._limits.items() if shape >= limited)
        room = max(1.0, self._most_tokens / shape)
        return int(min(self._most, room, self._by_profile(shape), *limits))

    def limit(self, shape: int, rows: int) -> None:
        """Stay below so many rows of this token count, and of any larger: memory ran out there."""
        fitting = max(1, rows // 2)
        self._limits[shape] = min(fitting, self._limits.get(shape, fitting))

    def _by_profile(self, shape: int) -> int:
        """Take what was not profiled for the next larger, whose memory surely suffices."""
        if not self._profiled:
            return 1
        larger = [profiled for profiled in self._profiled if profiled >= shape]
        return self._profiled[min(larger) if larger else max(self._profiled)]


def _widest(seconds: Mapping[int, float]) -> int:
    doublings = [1]
    while doublings[-1] < WIDEST and 2 * doublings[-1] in seconds:
        doublings.append(2 * doublings[-1])
    for rows, twice in pairwise(doublings):
        if rows not in seconds or not _pays(seconds, rows, twice):
            return rows
    return doublings[-1]


def _pays(seconds: Mapping[int, float], rows: int, twice: int) -> bool:
    return seconds[twice] / twice <= (1 - _GAIN) * seconds[rows] / rows
