"""Opens what a server keeps in its data directory, and clears away what the last run left there."""

import logging
import shutil
from dataclasses import dataclass

from hidream_server.cli.serving import Serving
from hidream_server.queue.outlook import Outlook
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.database import open_database
from hidream_server.store.keyed_files import KeyedFiles
from hidream_server.store.pictures import PictureFolder
from hidream_server.store.tasks import TaskStore
from hidream_server.task import TaskState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """The tasks, what belongs to them, and when they will be done."""

    queue: TaskQueue
    outlook: Outlook
    pictures: PictureFolder
    checkpoints: KeyedFiles
    previews: KeyedFiles
    profiles: KeyedFiles


def open_stores(serving: Serving) -> Stores:
    """Open everything; only for the sole owner of the data directory."""
    settings = serving.settings
    folder = settings.data_dir
    # Previews are of use only while their tasks run.
    shutil.rmtree(folder / "previews", ignore_errors=True)
    tasks, outlook = TaskStore(open_database(folder / "tasks.db")), serving.new_outlook()
    stores = Stores(
        queue=TaskQueue(tasks, settings.max_crashes, outlook),
        outlook=outlook,
        pictures=PictureFolder(folder / "pictures"),
        checkpoints=KeyedFiles(folder / "checkpoints"),
        previews=KeyedFiles(folder / "previews"),
        profiles=KeyedFiles(folder / "profiles"),
    )
    recovered = stores.queue.recover()
    if recovered:
        logger.warning("%d task(s) of the last run are queued again", recovered)
    _drop_useless(stores)
    return stores


def _drop_useless(stores: Stores) -> None:
    """Drop the checkpoints of tasks that will not be run any more."""
    for task_id in stores.checkpoints.names():
        task = stores.queue.get(task_id)
        if task is None or task.state is not TaskState.QUEUED:
            stores.checkpoints.drop(task_id)
