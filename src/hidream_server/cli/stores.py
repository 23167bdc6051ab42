"""Opens what a server keeps: the tasks, the files that belong to them, and who looks after both."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hidream_server.cli.disk import check_folder
from hidream_server.cli.instance import instance_name
from hidream_server.observer import Observer
from hidream_server.queue.bounds import Bounds
from hidream_server.queue.housekeeping import Housekeeper, HouseRules
from hidream_server.queue.outlook import Outlook
from hidream_server.queue.prospects import Prospects
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.settings import Settings
from hidream_server.store.blobs import Blobs
from hidream_server.store.clock import DatabaseClock
from hidream_server.store.database import (
    Database,
    check_postgresql,
    check_sqlite,
    open_postgresql,
    open_sqlite,
)
from hidream_server.store.folder import Folder
from hidream_server.store.hints import Hints
from hidream_server.store.keys import KeyStore
from hidream_server.store.results import Results, check_bucket, is_bucket, open_results
from hidream_server.store.tasks import TaskStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """The tasks, what belongs to them, and when they will be done."""

    #: Whose the leases are: this data directory's, whichever process serves on it.
    owner: str
    #: The time by which all processes on the database measure leases.
    clock: Callable[[], float]
    queue: TaskQueue
    outlook: Outlook
    housekeeper: Housekeeper
    database: Database
    keys: KeyStore
    results: Results
    profiles: Blobs
    #: What other processes let be known; none where there are no others.
    hints: Hints | None

    @property
    def is_shared(self) -> bool:
        """Other processes may use the same database."""
        return self.hints is not None

    def close(self) -> None:
        if self.hints is not None:
            self.hints.close()
        self.database.dispose()


def open_stores(
    settings: Settings, database: Database, outlook: Outlook, observer: Observer
) -> Stores:
    """Open everything, and put in order what the last run left; for the owner of the directory."""
    folder, url = settings.data_dir, settings.database_url
    clock = time.time if url is None else DatabaseClock(database)
    results = open_results(settings.results, folder, database)
    tasks = TaskStore(database)
    queue = TaskQueue(
        tasks,
        Prospects(tasks, outlook, clock),
        settings.max_crashes,
        Bounds.of(settings),
        clock,
        observer,
    )
    stores = Stores(
        owner=instance_name(folder),
        clock=clock,
        queue=queue,
        outlook=outlook,
        database=database,
        keys=KeyStore(database),
        housekeeper=Housekeeper(queue, database, results, HouseRules.of(settings), clock),
        results=results,
        profiles=Folder(folder / "profiles"),
        hints=None if url is None else Hints(url, queue.hear),
    )
    if recovered := queue.take_back(stores.owner):
        logger.warning("%d task(s) of the last run are queued again", recovered)
    return stores


def open_database(settings: Settings) -> Database:
    """Open the task database that the settings name."""
    if settings.database_url is None:
        return open_sqlite(_database_file(settings))
    return open_postgresql(settings.database_url)


def check_database(settings: Settings) -> None:
    """Raise ConfigurationError if the database could not be opened; change nothing."""
    if settings.database_url is None:
        check_sqlite(_database_file(settings))
    else:
        check_postgresql(settings.database_url)


def check_results(settings: Settings) -> None:
    """Raise ConfigurationError if pictures could not be kept there, as far as a look shows it."""
    where = settings.results
    if where is not None and is_bucket(where):
        check_bucket(where)
    elif where is not None:
        check_folder(Path(where), "--results")


def _database_file(settings: Settings) -> Path:
    return settings.data_dir / "tasks.db"
