"""How far each client is with its share of the service; knows no tasks and no clock.

Start-time fair queueing, step by step: whoever has been served least is next, and nobody saves up
while idle. Source: Goyal, Vin and Cheng, "Start-time fair queueing", SIGCOMM 1996.
"""

from collections.abc import Iterable, Mapping


class FairShares:
    """Seconds of service by client, over its weight, on a scale common to all active clients."""

    def __init__(self) -> None:
        self._served_s: dict[str, float] = {}
        self._active: frozenset[str] = frozenset()

    def charge(self, client: str, seconds: float) -> None:
        self._served_s[client] = self._served_s.get(client, 0.0) + seconds

    def start_tags(self, head_starts: Mapping[str, float]) -> dict[str, float]:
        """Return, of each active client, the seconds served less its head start: least is next.

        Takes in who has become active and forgets who no longer matters; asking again with the
        same clients changes nothing.
        """
        staying = [client for client in head_starts if client in self._active]
        if not staying:
            # Nobody who ran ahead, or was behind, is there any more: a new account for all.
            self._served_s.clear()
        entries = {
            client: self._entry_s(head_start, staying, head_starts)
            for client, head_start in head_starts.items()
            if client not in self._active
        }
        for client, entry_s in entries.items():
            # Who ran ahead and went away for a moment comes back as far ahead.
            self._served_s[client] = max(entry_s, self._served_s.get(client, 0.0))
        if entries or len(staying) < len(self._active):
            self._active = frozenset(head_starts)
            self._forget()
        return {c: self._served_s[c] - head_start for c, head_start in head_starts.items()}

    def copy(self) -> "FairShares":
        """Return the same state, to be carried on without touching this one."""
        twin = FairShares()
        twin._served_s = dict(self._served_s)
        twin._active = self._active
        return twin

    def _entry_s(
        self, head_start: float, staying: Iterable[str], head_starts: Mapping[str, float]
    ) -> float:
        """Return from where a client counts that becomes active: level with its likes.

        Its likes have at least its own head start, or the greatest there is. Level with the least
        served of all it would pass those that a client of low priority has let ahead.
        """
        highest = max((head_starts[client] for client in staying), default=head_start)
        likes = (c for c in staying if head_starts[c] >= min(head_start, highest))
        return min((self._served_s[client] for client in likes), default=0.0)

    def _forget(self) -> None:
        """Forget the idle whom nobody active is behind: they would be no worse off as strangers."""
        least = min((self._served_s[client] for client in self._active), default=0.0)
        self._served_s = {
            client: served_s
            for client, served_s in self._served_s.items()
            if client in self._active or served_s > least
        }
