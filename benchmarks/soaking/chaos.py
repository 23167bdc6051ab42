"""What goes wrong in a soak: one thing after the other, drawn by lot, each mended after a while."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from benchmarks.soaking.stage import Stage

_TO_THE_SERVER = ("kill -9 of the server", "SIGTERM of the server")


class Chaos:
    """Breaks the service again and again for as long as it is let."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._draw = random.Random(seed)
        self.done: Counter[str] = Counter()
        #: What is done, and how often in a hundred times.
        self.deeds: dict[str, tuple[Callable[[], None], int]] = {
            _TO_THE_SERVER[0]: (self._kill_server, 12),
            _TO_THE_SERVER[1]: (self._stop_server, 8),
            "kill -9 of a rank": (self._kill_rank, 30),
            "SIGSTOP of a rank": (self._freeze_rank, 12),
            "kill -9 of the launcher": (self._kill_launcher, 12),
        }
        if stage.database is not None:
            self.deeds["PostgreSQL gone"] = (self._lose_database, 14)
        if stage.disk.is_small:
            self.deeds["disk full"] = (self._fill_disk, 12)

    def run(self, until: float, spare_server: Callable[[], bool]) -> None:
        """Do one thing every ten seconds or so.

        While the server is to be spared, it lives long enough to tell whether its memory grows.
        """
        while time.monotonic() < until:
            time.sleep(self._draw.uniform(4, 14))
            spared = _TO_THE_SERVER if spare_server() else ()
            deeds = {name: deed for name, deed in self.deeds.items() if name not in spared}
            weights = [weight for _, weight in deeds.values()]
            [name] = self._draw.choices(list(deeds), weights)
            with suppress(ProcessLookupError):
                deeds[name][0]()
                self.done[name] += 1

    def _kill_server(self) -> None:
        with self._stage.turn:
            self._stage.server.process.kill()

    def _stop_server(self) -> None:
        with self._stage.turn:
            self._stage.server.process.send_signal(signal.SIGTERM)

    def _kill_rank(self) -> None:
        self._signal(self._stage.server.ranks(), signal.SIGKILL)

    def _freeze_rank(self) -> None:
        self._signal(self._stage.server.ranks(), signal.SIGSTOP)

    def _kill_launcher(self) -> None:
        self._signal(self._stage.server.launchers(), signal.SIGKILL)

    def _signal(self, pids: list[int], number: signal.Signals) -> None:
        if not pids:
            raise ProcessLookupError
        os.kill(self._draw.choice(pids), number)

    def _lose_database(self) -> None:
        database = self._stage.database
        assert database is not None
        database.crash()
        time.sleep(self._draw.choice((0, 2, 5, 20)))
        database.start()

    def _fill_disk(self) -> None:
        self._stage.disk.fill()
        time.sleep(self._draw.uniform(2, 8))
        self._stage.disk.free()
