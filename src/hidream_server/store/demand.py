"""How much work there is for a model, for whoever decides how many are to do it."""

from typing import NamedTuple

from sqlalchemy import func, select, true

from hidream_server.store.database import Database
from hidream_server.store.tables import tasks
from hidream_server.task import TaskState

_OPEN = (TaskState.QUEUED, TaskState.PROCESSING)


class Demand(NamedTuple):
    """Tasks that have not ended, and their expected work in rows × steps × megapixels."""

    tasks: int
    work: float


def open_demand(database: Database, model: str | None) -> Demand:
    """Return what is queued or under way for a model, or for any."""
    fitting = true() if model is None else tasks.c.model.in_(("", model))
    query = select(func.count(), func.coalesce(func.sum(tasks.c.cost), 0.0))
    with database.read() as connection:
        count, work = connection.execute(query.where(tasks.c.state.in_(_OPEN), fitting)).one()
    return Demand(count, work)
