"""Servers on one database know of each other's worker groups; a server alone knows its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from hidream_server.engine.health import EngineHealth, EngineState
from hidream_server.engine.membership import GONE_S, Member, Membership
from hidream_server.errors import StoreUnavailableError
from hidream_server.store.groups import GroupStore
from tests.support import Clock, a_member, new_database

WELL = EngineHealth(
    state=EngineState.HEALTHY, since=5.0, warm=True, layout="tp2", wanted_layout="tp2"
)
HERE = a_member(WELL)
THERE = a_member(
    replace(WELL, state=EngineState.DEGRADED, reason="A rank left.", layout="tp1"),
    id="there#0",
    machine="there",
    pace={"step_s": {"64": {"2": 0.5}}, "beside_s": {"64": 1.0}},
    tasks=["a"],
)


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def store(tmp_path: Path) -> GroupStore:
    return GroupStore(new_database(tmp_path / "tasks.db"))


def of(member: Member, store: GroupStore | None, clock: Clock) -> Membership:
    return Membership(lambda: [member], store, clock)


def test_all_know_of_all_and_say_how_they_are(store, clock) -> None:
    here, there = of(HERE, store, clock), of(THERE, store, clock)
    here.refresh()
    there.refresh()
    here.refresh()
    assert here.members == [HERE, THERE]
    assert there.members == [THERE, HERE]


def test_whoever_has_no_group_knows_of_all(store, clock) -> None:
    of(HERE, store, clock).refresh()
    front = Membership(list, store, clock)
    front.refresh()
    assert front.members == [HERE]


def test_one_that_falls_silent_is_gone_and_comes_back(store, clock) -> None:
    here, there = of(HERE, store, clock), of(THERE, store, clock)
    there.refresh()
    clock.now += GONE_S
    here.refresh()
    assert here.members == [HERE, THERE]
    clock.now += 0.1
    here.refresh()
    assert here.members == [HERE]
    there.refresh()
    here.refresh()
    assert here.members == [HERE, THERE]


def test_one_that_leaves_is_gone_at_once(store, clock) -> None:
    here, there = of(HERE, store, clock), of(THERE, store, clock)
    there.refresh()
    there.leave()
    here.refresh()
    assert here.members == [HERE]


def test_own_groups_are_known_as_they_are_now(clock) -> None:
    now = [HERE]
    alone = Membership(lambda: now, None, clock)
    alone.refresh()
    now[0] = replace(HERE, tasks=["b"])
    assert alone.members == now
    alone.leave()


def test_while_the_database_is_away_what_was_heard_last_counts(store, clock, monkeypatch) -> None:
    here, there = of(HERE, store, clock), of(THERE, store, clock)
    there.refresh()
    here.refresh()

    def away(*_: object) -> None:
        raise StoreUnavailableError

    monkeypatch.setattr(store, "say", away)
    monkeypatch.setattr(store, "leave", away)
    clock.now += 1000
    here.refresh()
    assert here.members == [HERE, THERE]
    here.leave()
