"""The time of a database is the same for all who ask, whatever their own clocks say."""

import pytest

from hidream_server.errors import StoreUnavailableError
from hidream_server.store.clock import DatabaseClock
from hidream_server.store.database import open_postgresql
from tests.postgresql import Postgresql
from tests.support import Clock


class Said:
    """A database that only knows what time it is."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.asked = 0
        self.away = False

    def read(self) -> "Said":
        if self.away:
            raise StoreUnavailableError
        return self

    def __enter__(self) -> "Said":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, _statement: object) -> "Said":
        self.asked += 1
        return self

    def scalar_one(self) -> float:
        return self.now


def test_it_goes_on_with_our_own_clock_and_is_asked_again_after_a_minute() -> None:
    said, own = Said(5000.0), Clock(10.0)
    clock = DatabaseClock(said, own)
    assert clock() == 5000.0
    own.now += 59.0
    assert clock() == 5059.0
    assert said.asked == 1
    own.now, said.now = own.now + 1.0, 5060.5
    assert clock() == 5060.5
    assert said.asked == 2


def test_while_it_is_away_the_time_goes_on() -> None:
    said, own = Said(5000.0), Clock(10.0)
    clock = DatabaseClock(said, own)
    clock()
    said.away = True
    own.now += 100.0
    assert clock() == 5100.0
    said.away, said.now = False, 7000.0
    assert clock() == 7000.0


def test_postgresql_says_what_time_it_is(postgresql: Postgresql) -> None:
    database = open_postgresql(postgresql.new_database())
    clock, own = DatabaseClock(database), DatabaseClock(database)
    # Both were asked on this very machine: nothing but the way there and back is between them.
    assert clock() == pytest.approx(own(), abs=5.0)
    database.dispose()
