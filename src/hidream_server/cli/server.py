"""Puts the server together from a serving, and runs it from its first socket to its last task."""

import asyncio
import contextlib
import logging
import shutil
import signal
import socket
from collections.abc import Iterator

import uvicorn

from hidream_server.api.app import create_app
from hidream_server.api.limits import Limits
from hidream_server.api.services import Services
from hidream_server.cli.instance import claim_instance
from hidream_server.cli.serving import Serving, bind, decide
from hidream_server.engine.device_turns import DeviceTurns
from hidream_server.engine.launchers.project import project_command
from hidream_server.engine.launchers.torchrun import TorchrunLauncher, torchrun_command
from hidream_server.engine.layout_ladder import LayoutLadder
from hidream_server.engine.profiles import Profiles
from hidream_server.engine.replicas import Replicas
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.engine.supervisor import Deadlines, Supervisor
from hidream_server.engine.worker_group import WorkerGroup
from hidream_server.ipc.messages import Profile
from hidream_server.layouts.choice import ladder
from hidream_server.layouts.layout import Layout
from hidream_server.logs import end_startup_log, set_up_logs
from hidream_server.queue.outlook import Outlook
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.settings import Settings
from hidream_server.store.database import open_database
from hidream_server.store.keyed_files import KeyedFiles
from hidream_server.store.pictures import PictureFolder
from hidream_server.store.tasks import TaskStore
from hidream_server.task import TaskState

logger = logging.getLogger(__name__)

#: How long open connections may go on after the last task, in seconds.
_CLOSE_GRACE_S = 5

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers: a signal drains the tasks first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_server(settings: Settings) -> None:
    """Serve until a signal comes and the tasks are drained."""
    # A signal that comes too early waits until there is something that can be stopped in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    serving = decide(settings)
    with claim_instance(settings.data_dir):
        shutil.rmtree(serving.project_work, ignore_errors=True)
        if serving.project is not None:
            serving.project_work.mkdir()
        listener = bind(settings.host, settings.port)
        startup = set_up_logs(settings.log_dir, settings.log_level, settings.log_file_mb * 2**20)
        serving.announce()
        asyncio.run(_serve(serving, listener, startup))
        logger.info("Stopped")


async def _serve(serving: Serving, listener: socket.socket, startup: logging.Handler) -> None:
    settings = serving.settings
    store = TaskStore(open_database(settings.data_dir / "tasks.db"))
    outlook = serving.new_outlook()
    queue = TaskQueue(store, settings.max_crashes, outlook)
    pictures = PictureFolder(settings.data_dir / "pictures")
    checkpoints = KeyedFiles(settings.data_dir / "checkpoints")
    # Previews are of use only while their tasks run.
    shutil.rmtree(settings.data_dir / "previews", ignore_errors=True)
    previews = KeyedFiles(settings.data_dir / "previews")
    recovered = queue.recover()
    if recovered:
        logger.warning("%d task(s) of the last run are queued again", recovered)
    _drop_useless(checkpoints, queue)
    engine = Replicas(
        [
            _supervisor(
                serving,
                ids,
                queue,
                RunningTasks(queue, pictures, checkpoints, previews, outlook),
                outlook,
            )
            for ids in serving.replica_devices
        ]
    )
    services = Services(
        settings=settings,
        limits=Limits(settings, serving.model),
        model=serving.model,
        devices=serving.devices,
        queue=queue,
        pictures=pictures,
        previews=previews,
        health=lambda: engine.health,
    )
    http = _Http(
        uvicorn.Config(
            create_app(services),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_CLOSE_GRACE_S,
        )
    )
    logger.info("Listening on %s port %d", settings.host, settings.port)
    await _run(serving, http, engine, listener, startup)


def _drop_useless(checkpoints: KeyedFiles, queue: TaskQueue) -> None:
    """Drop the checkpoints of tasks that will not be run any more."""
    for task_id in checkpoints.names():
        task = queue.get(task_id)
        if task is None or task.state is not TaskState.QUEUED:
            checkpoints.drop(task_id)


def _supervisor(
    serving: Serving,
    ids: tuple[int, ...],
    queue: TaskQueue,
    running: RunningTasks,
    outlook: Outlook,
) -> Supervisor:
    """Return the supervisor of the group on these devices."""
    settings, kind = serving.settings, serving.devices.kind
    deadlines = Deadlines(
        load_s=settings.load_timeout_s,
        step_s=settings.step_timeout_s,
        drain_s=settings.drain_timeout_s,
    )
    by_project = serving.project is not None
    launcher = TorchrunLauncher(project_command if by_project else torchrun_command)
    turns = DeviceTurns(ids)
    profiles = Profiles(KeyedFiles(settings.data_dir / "profiles"), serving.profile_name)

    def new_group(layout: Layout) -> WorkerGroup:
        taken = turns.take(layout.ranks)
        logger.info("Layout %s on %s device %s", layout, kind.name, ",".join(map(str, taken)))
        return WorkerGroup(
            launcher=launcher,
            size=layout.ranks,
            environment=kind.environment(taken, layout.ranks * settings.replicas),
            greeting=serving.load_command(layout, profiles.get(str(layout))),
        )

    def learn(layout: Layout, profile: Profile) -> None:
        profiles.keep(str(layout), profile)
        outlook.know(profile.step_s)

    # A project whose script fails falls back by itself, task by task; one that hangs does not.
    config = serving.model.transformer
    rungs = (
        list(dict.fromkeys((serving.layout, Layout())))
        if by_project
        else ladder(serving.layout, config, serving.fits)
    )
    layouts = LayoutLadder(rungs, settings.layout_tries, settings.layout_cool_down_s)
    device = kind.name.upper()
    where = f"{device} {','.join(map(str, ids))}" if settings.replicas > 1 else ""
    return Supervisor(
        queue,
        running,
        new_group,
        layouts,
        deadlines,
        learn=learn,
        max_running=serving.places,
        device=device,
        where=where,
    )


async def _run(
    serving: Serving,
    http: uvicorn.Server,
    engine: Replicas,
    listener: socket.socket,
    startup: logging.Handler,
) -> None:
    """Answer HTTP for as long as the engine lives, a drain included."""
    _stop_on_signals(engine, serving.settings.drain_timeout_s)
    answering = asyncio.create_task(http.serve(sockets=[listener]))
    working = asyncio.create_task(engine.run())
    starting = asyncio.create_task(_follow_startup(engine, startup))
    await asyncio.wait((answering, working), return_when=asyncio.FIRST_COMPLETED)
    engine.stop()
    await asyncio.wait((working,))
    starting.cancel()
    http.should_exit = True
    await answering
    working.result()


def _stop_on_signals(engine: Replicas, drain_s: float) -> None:
    """Drain on the first signal; hand everything back at once on the second."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        again = engine.stopping
        engine.stop(drain_s=0 if again else None)
        if again:
            logger.info("Stopping now")
        else:
            logger.info(
                "Stopping: %d running task(s) may finish, within %.0f s; a second signal hands"
                " them back to the queue now",
                engine.running,
                drain_s,
            )

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


async def _follow_startup(engine: Replicas, startup: logging.Handler) -> None:
    await engine.wait_ready()
    end_startup_log(startup)
