"""How much work there is for a model, on every database."""

from dataclasses import replace

from hidream_server.store.database import Database
from hidream_server.store.demand import Demand, open_demand
from hidream_server.store.tasks import TaskStore
from tests.contract.test_task_store import new_task


def test_there_is_none_at_first(database: Database) -> None:
    assert open_demand(database, None) == Demand(0, 0.0)


def test_what_waits_and_what_runs_counts_for_its_model_and_what_has_ended_does_not(
    database: Database,
) -> None:
    store = TaskStore(database)
    tasks = [replace(new_task(), model=model) for model in ("Full", "Full", "Full", "Fast", "")]
    store.insert(tasks)
    cost = tasks[0].params.cost
    [running] = store.claim("group", 1, 10.0, 30.0, model="Full")
    assert open_demand(database, "Full") == Demand(4, 4 * cost)
    assert open_demand(database, "Fast") == Demand(2, 2 * cost)
    assert open_demand(database, None) == Demand(5, 5 * cost)
    store.cancel(running.id, 11.0)
    assert open_demand(database, "Full") == Demand(3, 3 * cost)
