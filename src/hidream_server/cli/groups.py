"""Makes the engine of a serving: a supervisor for the worker group of each replica."""

import logging
from collections.abc import Callable

from hidream_server.cli.serving import Serving
from hidream_server.cli.stores import Stores
from hidream_server.engine.device_turns import DeviceTurns
from hidream_server.engine.launchers.launcher import GroupLauncher
from hidream_server.engine.launchers.project import project_command
from hidream_server.engine.launchers.torchrun import TorchrunLauncher, torchrun_command
from hidream_server.engine.layout_ladder import LayoutLadder
from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.profiles import Profiles
from hidream_server.engine.replicas import Replicas
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.engine.supervisor import Deadlines, Supervisor
from hidream_server.engine.worker_group import WorkerGroup
from hidream_server.ipc.messages import Profile
from hidream_server.layouts.choice import ladder
from hidream_server.layouts.layout import Layout
from hidream_server.observer import Observer

logger = logging.getLogger(__name__)


def torchrun_launcher(serving: Serving) -> GroupLauncher:
    """Return what starts the ranks of one group after the other on this machine."""
    command = torchrun_command if serving.project is None else project_command
    return TorchrunLauncher(command, serving.devices.kind.niceness, serving.nodes)


def new_engine(
    serving: Serving,
    stores: Stores,
    observer: Observer,
    new_launcher: Callable[[Serving], GroupLauncher] = torchrun_launcher,
) -> Replicas:
    """Return all supervisors, which share the stores."""
    return Replicas(
        [
            _supervisor(
                serving,
                stores,
                _Groups(serving, stores, ids, new_launcher(serving)),
                observer,
                number,
            )
            for number, ids in enumerate(serving.replica_devices)
        ]
    )


def _supervisor(
    serving: Serving, stores: Stores, groups: "_Groups", observer: Observer, number: int
) -> Supervisor:
    """Return the supervisor of these groups."""
    settings = serving.settings
    device = serving.devices.kind.name.upper()
    # Where only this server is, it does all there is, whatever its model was called before.
    model = serving.model.name if stores.is_shared else None
    queue = PatientQueue(stores.queue, stores.owner, model=model)
    return Supervisor(
        queue,
        RunningTasks(
            queue,
            Leavings(stores.results),
            stores.outlook,
            observer=observer,
        ),
        groups.new,
        LayoutLadder(_rungs(serving), settings.layout_tries, settings.layout_cool_down_s),
        Deadlines(
            load_s=settings.load_timeout_s,
            step_s=settings.step_timeout_s,
            drain_s=settings.drain_timeout_s,
        ),
        learn=groups.learn,
        max_running=serving.places,
        device=device,
        where=f"{device} {','.join(map(str, groups.ids))}" if settings.replicas > 1 else "",
        observer=observer,
        number=number,
        groups=stores.outlook.count_groups,
    )


def _rungs(serving: Serving) -> list[Layout]:
    """Return the layouts from the wanted one down."""
    if serving.project is None:
        return ladder(serving.layout, serving.model.transformer, serving.fits)
    # A project whose script fails falls back by itself, task by task; one that hangs does not.
    return list(dict.fromkeys((serving.layout, Layout())))


class _Groups:
    """Makes one group after the other, and keeps what they find out of the model."""

    def __init__(
        self, serving: Serving, stores: Stores, ids: tuple[int, ...], launcher: GroupLauncher
    ) -> None:
        self.ids = ids
        self._serving = serving
        self._launcher = launcher
        self._outlook = stores.outlook
        self._profiles = Profiles(stores.profiles, serving.profile_name)
        if known := self._profiles.get(str(serving.layout)):
            self._outlook.know(known.step_s, known.beside_s)
        self._turns = DeviceTurns(ids)

    def new(self, layout: Layout) -> WorkerGroup:
        """Return a group that is to be started, on devices whose turn it is."""
        serving, here = self._serving, self._serving.ranks_here(layout)
        kind, replicas = serving.devices.kind, serving.settings.replicas
        taken = self._turns.take(here)
        logger.info("Layout %s on %s device %s", layout, kind.name, ",".join(map(str, taken)))
        return WorkerGroup(
            launcher=self._launcher,
            size=layout.ranks,
            environment=kind.environment(taken, here * replicas),
            greeting=serving.load_command(layout, self._profiles.get(str(layout))),
            host=serving.control_host(layout),
        )

    def learn(self, layout: Layout, profile: Profile) -> None:
        self._profiles.keep(str(layout), profile)
        self._outlook.know(profile.step_s, profile.beside_s)
