"""Says now and then what this rank has used, from a thread of its own: the loop does not wait.

What it says is no sign that the loop is well.
"""

import threading
import time
from typing import Protocol

from hidream_server.ipc.messages import RankUsage

#: How often it is looked whether there is something new, in seconds.
_EVERY_S = 5.0


class _Channel(Protocol):
    def send(self, event: RankUsage) -> None: ...


class _Runner(Protocol):
    """The part of a model runner that knows what it used."""

    @property
    def prompt_lookups(self) -> tuple[int, int]: ...

    def peak_memory_bytes(self) -> int: ...


class UsageReports:
    """Reports what changed; what was looked up before it was made, in a warm-up, does not count."""

    def __init__(self, channel: _Channel, rank: int, runner: _Runner) -> None:
        self._channel = channel
        self._rank = rank
        self._runner = runner
        self._lookups = runner.prompt_lookups
        self._peak_bytes = 0

    def start(self) -> None:
        threading.Thread(target=self._run, name="usage", daemon=True).start()

    def report(self) -> None:
        """Send what is new, if anything is."""
        peak_bytes, lookups = self._runner.peak_memory_bytes(), self._runner.prompt_lookups
        if (peak_bytes, lookups) == (self._peak_bytes, self._lookups):
            return
        prompts, cached = (now - before for now, before in zip(lookups, self._lookups, strict=True))
        self._peak_bytes, self._lookups = peak_bytes, lookups
        self._channel.send(
            RankUsage(
                rank=self._rank,
                peak_memory_bytes=peak_bytes,
                prompts=prompts,
                prompts_cached=cached,
            )
        )

    def _run(self) -> None:
        while True:
            try:
                self.report()
            except OSError:
                # The supervisor has gone, and this process is about to.
                return
            time.sleep(_EVERY_S)
