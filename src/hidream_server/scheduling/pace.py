"""How long a forward takes, by token count and rows, as profiled and as measured while serving."""

from collections.abc import Mapping

from hidream_server.scheduling.widths import Profile

#: Seconds for each row and token before anything was measured; only ratios matter then.
_GUESS_S = 0.1 / 4096
#: Weight of the latest step in the average: a moment in which the machine is busy counts little.
_NEWEST = 0.05


class Pace:
    """Averages of step times."""

    def __init__(self, profile: Profile | None = None, fp8_ratio: float | None = None) -> None:
        known = (profile or {}).items()
        self._step_s = {shape: dict(by_rows) for shape, by_rows in known if by_rows}
        #: The seconds of a forward in fp8 over those of an exact one; None where nobody knows.
        self.fp8_ratio = fp8_ratio

    @property
    def known(self) -> dict[int, dict[int, float]]:
        """What was profiled or measured, as a profile says it."""
        return {shape: dict(by_rows) for shape, by_rows in self._step_s.items()}

    def learn(self, profile: Profile) -> None:
        """Take in a profile; what was measured while serving counts more."""
        for shape, by_rows in profile.items():
            self._step_s[shape] = {**by_rows, **self._step_s.get(shape, {})}

    def measured(self, shape: int, rows: int, seconds: float, fp8: bool = False) -> None:
        if fp8:
            self._measured_fp8(seconds, self.step_s(shape, rows))
            return
        by_rows = self._step_s.setdefault(shape, {})
        before = by_rows.get(rows, seconds)
        by_rows[rows] = before + _NEWEST * (seconds - before)

    def _measured_fp8(self, seconds: float, exact_s: float) -> None:
        if not self._step_s:
            # Over a guess it would be no ratio.
            return
        ratio = seconds / exact_s
        before = ratio if self.fp8_ratio is None else self.fp8_ratio
        self.fp8_ratio = before + _NEWEST * (ratio - before)

    def step_s(self, shape: int, rows: int, fp8: bool = False) -> float:
        """Return the seconds of a forward; what was never measured is scaled from what is nearest.

        Other rows of the same token count tell more than another token count does. Those in fp8
        take as much of an exact one's seconds as others of theirs did.
        """
        if fp8:
            return self.step_s(shape, rows) * (1.0 if self.fp8_ratio is None else self.fp8_ratio)
        if shape in self._step_s:
            return _at_rows(self._step_s[shape], rows)
        if not self._step_s:
            return shape * rows * _GUESS_S
        nearest = min(self._step_s, key=lambda known: (abs(known - shape), known))
        return _at_rows(self._step_s[nearest], rows) * shape / nearest


def _at_rows(by_rows: Mapping[int, float], rows: int) -> float:
    """Read between two measured numbers of rows, and in proportion beyond them."""
    if rows in by_rows:
        return by_rows[rows]
    fewer = max((known for known in by_rows if known < rows), default=None)
    more = min((known for known in by_rows if known > rows), default=None)
    if fewer is not None and more is not None:
        rise = (by_rows[more] - by_rows[fewer]) / (more - fewer)
        return by_rows[fewer] + rise * (rows - fewer)
    nearest = fewer or more
    assert nearest is not None
    return by_rows[nearest] * rows / nearest
