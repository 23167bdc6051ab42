"""When a message that was not delivered is tried again: the schedule of Standard Webhooks 1.0.0."""

#: Pauses after the first failure, the second, and so on, in seconds; three days in all.
_PAUSES_S = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
#: A pause is longer by up to this share of it, so that messages that failed together part.
_SPREAD = 0.2


def next_try_s(failures: int, jitter: float) -> float | None:
    """Return the pause after so many failures in seconds; None where no further try is made.

    `jitter` is drawn anew for each pause, from 0 to 1.
    """
    assert failures >= 1
    if failures > len(_PAUSES_S):
        return None
    return _PAUSES_S[failures - 1] * (1 + _SPREAD * jitter)
