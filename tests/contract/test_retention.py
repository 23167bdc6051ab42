"""Of pictures that are too old or too many each is taken by one server, though several look."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hidream_server.errors import StoreUnavailableError
from hidream_server.store.database import Database
from hidream_server.store.retention import EndedTasks, Excess
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task
from tests.support import new_queue, params, submit

SERVERS = 4


def completed(database: Database, count: int) -> list[Task]:
    """Return tasks that were completed at 0, 1, 2 and so on, each with a picture of ten bytes."""
    store = TaskStore(database)
    tasks = submit(new_queue(store), [params()] * count)
    for at, task in enumerate(store.claim("g", count, 0.0, 30.0)):
        assert store.complete((task.id, 1), float(at), [f"{task.id}_1_0.png"], {}, 10)
    return tasks


def expired_by_all(open_database: Callable[[], Database], excess: Excess) -> list[list[str]]:
    """Let several servers expire at once, again and again as they do; return what each took."""

    def expire(_server: int) -> list[str]:
        database, taken = open_database(), []
        try:
            for _ in range(3):
                try:
                    taken += [task.id for task in EndedTasks(database).expire(excess, 100.0)]
                except StoreUnavailableError:
                    # Two were in each other's way; the next look is a minute later.
                    continue
        finally:
            database.dispose()
        return taken

    with ThreadPoolExecutor(SERVERS) as pool:
        return list(pool.map(expire, range(SERVERS)))


def test_what_is_too_old_is_taken_once(new_databases: Callable[[], Callable[[], Database]]):
    open_database = new_databases()
    database = open_database()
    tasks = completed(database, 60)
    taken = expired_by_all(open_database, Excess(made_before=40.0, size_bytes=float("inf")))
    assert sorted(id for some in taken for id in some) == sorted(task.id for task in tasks[:40])
    database.dispose()


def test_of_what_is_too_much_the_oldest_is_taken_once_and_not_more(
    new_databases: Callable[[], Callable[[], Database]],
):
    open_database = new_databases()
    database = open_database()
    tasks = completed(database, 60)
    taken = expired_by_all(open_database, Excess(made_before=0.0, size_bytes=250.0))
    assert sorted(id for some in taken for id in some) == sorted(task.id for task in tasks[:35])
    database.dispose()
