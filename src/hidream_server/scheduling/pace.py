"""How long a step takes, by its cost, as measured while serving."""

#: Seconds for each row × megapixel before anything was measured; only their ratio matters then.
_GUESS_S = 0.1
#: Weight of the latest step in the average.
_NEWEST = 0.2


class Pace:
    """Averages of step times; cost is rows × megapixels of one step."""

    def __init__(self) -> None:
        self._step_s: dict[float, float] = {}

    def measured(self, cost: float, seconds: float) -> None:
        before = self._step_s.get(cost, seconds)
        self._step_s[cost] = before + _NEWEST * (seconds - before)

    def step_s(self, cost: float) -> float:
        """Return the seconds of a step; what was never measured is scaled from what is nearest."""
        if cost in self._step_s:
            return self._step_s[cost]
        if not self._step_s:
            return cost * _GUESS_S
        nearest = min(self._step_s, key=lambda known: abs(known - cost))
        return self._step_s[nearest] * cost / nearest
