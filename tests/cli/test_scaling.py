"""How many replicas a deployment is to have, by the work that is open."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from hidream_server.cli.cluster import scaling
from hidream_server.cli.cluster.scaling import OpenWorkPolicy, wanted_replicas
from hidream_server.errors import StoreUnavailableError
from hidream_server.store.demand import Demand


@pytest.mark.parametrize(
    ("tasks", "work", "wanted"),
    [(0, 0, 0), (1, 50, 1), (1, 5000, 1), (30, 3000, 3), (30, 3001, 4), (2, 5000, 2)],
)
def test_a_replica_for_each_so_much_work_and_never_more_than_tasks(tasks, work, wanted):
    assert wanted_replicas(Demand(tasks, work), 1000) == wanted


Ask = Callable[[], float]


@pytest.fixture
def database(monkeypatch) -> SimpleNamespace:
    """Stands in for the database, and says what it is to say."""
    stand_in = SimpleNamespace(demand=Demand(3, 30), away=False, asked=[])

    def open_demand(_database: object, model: str | None) -> Demand:
        stand_in.asked.append(model)
        if stand_in.away:
            raise StoreUnavailableError
        return stand_in.demand

    monkeypatch.setattr(scaling, "open_demand", open_demand)
    monkeypatch.setattr(scaling, "open_postgresql", lambda _url: object())
    monkeypatch.setattr(scaling, "ASK_S", 0.0)
    return stand_in


async def decide(policy: OpenWorkPolicy, target: int) -> float:
    """Ask twice: the first time sends for an answer, which the second one knows."""
    context = SimpleNamespace(target_num_replicas=target)
    policy(context)
    await policy._asking
    return policy(context)[0]


def test_the_database_says_how_much_there_is(database):
    policy = OpenWorkPolicy("postgresql://h/n", "HiDream-I1-Full", 10)
    assert asyncio.run(decide(policy, target=1)) == 3
    assert set(database.asked) == {"HiDream-I1-Full"}


def test_before_it_has_said_anything_all_stays_as_it_is(database):
    database.away = True
    policy = OpenWorkPolicy("postgresql://h/n", None, 10)
    assert asyncio.run(decide(policy, target=2)) == 2


def test_while_it_is_away_what_it_said_last_holds(database):
    async def life() -> float:
        policy = OpenWorkPolicy("postgresql://h/n", None, 10)
        await decide(policy, target=1)
        database.away = True
        return await decide(policy, target=1)

    assert asyncio.run(life()) == 3
