"""Which of its devices a group takes when it needs fewer than there are: the next ones each time.

A device that spoils every start is left out sooner or later; nobody needs to know which it is.
"""

from collections.abc import Sequence


class DeviceTurns:
    """Deals out devices in turn."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = list(ids)
        self._next = 0

    def take(self, count: int) -> tuple[int, ...]:
        """Return so many devices in ascending places, beginning after those taken last."""
        places = [(self._next + n) % len(self._ids) for n in range(count)]
        self._next = (self._next + count) % len(self._ids)
        return tuple(self._ids[place] for place in sorted(places))
