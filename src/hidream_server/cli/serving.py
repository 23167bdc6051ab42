"""Decides, before anything is started, what will be served and on which devices.

Refuses with one sentence what cannot be; takes milliseconds, because no tensor and no torch is
touched.
"""

import errno
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from hidream_server import __version__
from hidream_server.cli.tls import check_tls
from hidream_server.demo import DEMO_NOTICE
from hidream_server.devices.choice import DeviceChoice, choose_devices
from hidream_server.engine.launchers.project import find_project
from hidream_server.engine.launchers.torchrun import require_torch
from hidream_server.errors import ConfigurationError, LayoutUnavailableError, PortTakenError
from hidream_server.ipc.messages import LoadModel, LoadProject, Profile
from hidream_server.layouts.choice import choose_layout
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import RankMemory, Room, check_memory, fits, plan_memory
from hidream_server.model_directory.choice import choose_model
from hidream_server.model_directory.description import ModelDescription
from hidream_server.queue.outlook import Outlook
from hidream_server.scheduling.widths import WIDEST
from hidream_server.settings import Settings
from hidream_server.task import TaskParams
from hidream_server.traces.exporting import require_exporter

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Serving:
    """What will be served, and on what."""

    settings: Settings
    model: ModelDescription
    devices: DeviceChoice
    #: How the group splits the work, if all is well.
    layout: Layout
    room: Room
    #: The folder of the user's own project that is to paint, if one is.
    project: Path | None = None

    @property
    def replica_devices(self) -> list[tuple[int, ...]]:
        """The devices of each worker group, which may need fewer."""
        ids, count = self.devices.ids, _cards(self.devices, self.settings.replicas)
        return [ids[n * count : (n + 1) * count] for n in range(self.settings.replicas)]

    @property
    def used(self) -> tuple[int, ...]:
        """The devices that there is work for at first; those left over stand in for lost ones."""
        ranks = self.layout.ranks
        return tuple(device for devices in self.replica_devices for device in devices[:ranks])

    @property
    def project_work(self) -> Path:
        """Where a project's files are while it paints; nothing in it outlives the server."""
        return (self.settings.data_dir / "project").absolute()

    def memory(self, layout: Layout) -> list[RankMemory]:
        """Return what each rank of a resident group with this layout holds."""
        return plan_memory(self.model, layout, self.room)

    def fits(self, layout: Layout) -> bool:
        return fits(self.memory(layout), self.room)

    @property
    def places(self) -> int:
        """How many tasks a worker group has on hand."""
        return 1 if self.project is not None else self.settings.max_running

    def tokens(self, params: TaskParams) -> int:
        return self.model.padded_tokens(params.width, params.height)

    def new_outlook(self) -> Outlook:
        """Return an outlook that knows nothing yet of how long steps take."""
        settings = self.settings
        return Outlook(self.tokens, self.places, settings.max_rows, lanes=settings.replicas)

    @property
    def profile_name(self) -> str:
        """What a profile holds for, beside the layout: model, device, threads, version."""
        kind = self.devices.kind
        ranks = self.layout.ranks * self.settings.replicas
        threads = kind.environment(self.used, ranks).get("OMP_NUM_THREADS", "")
        compiled = ".compiled" if self.settings.compile else ""
        # Two folders of one name may hold two models.
        folder = crc32(str(self.model.path.resolve()).encode())
        return f"{self.model.name}-{folder:08x}.{kind.name}{threads}{compiled}.{__version__}"

    def load_command(self, layout: Layout, profile: Profile | None) -> LoadModel | LoadProject:
        """Return what each rank of a group with this layout is told first.

        `profile` is what an earlier start found out, if one did.
        """
        extra = str(self.model.extra_path) if self.model.extra_path else None
        if self.project is not None:
            return LoadProject(
                project_path=str(self.project),
                work_path=str(self.project_work),
                model_path=str(self.model.path),
                extra_model_path=extra,
                layout=str(layout),
                log_level=self.settings.log_level,
            )
        return LoadModel(
            model_path=str(self.model.path),
            extra_model_path=extra,
            device_type=self.devices.kind.name,
            layout=str(layout),
            offloaded_encoders=self._offloaded(layout),
            log_level=self.settings.log_level,
            prompt_cache_bytes=self.room.prompt_cache_bytes,
            checkpoint_s=self.settings.checkpoint_s,
            compile=self.settings.compile,
            max_rows=self.settings.max_rows,
            max_row_tokens=self._full_size_rows(layout) * self.model.max_image_tokens,
            profile=profile,
        )

    def _full_size_rows(self, layout: Layout) -> int:
        """Return how many rows of the largest picture there is memory for; a guided one fits."""
        held, rows = self._offloaded(layout), 2
        while rows < WIDEST:
            plan = plan_memory(self.model, layout, replace(self.room, rows=2 * rows))
            # No encoder is to give way to a wider step.
            if _waiting(plan) != held or not fits(plan, self.room):
                break
            rows *= 2
        return rows

    def _offloaded(self, layout: Layout) -> list[str]:
        return _waiting(self.memory(layout))

    def _kept(self) -> list[str]:
        """Say how long pictures are kept, in words; nothing where that is for ever."""
        days, gigabytes = self.settings.keep_pictures_days, self.settings.keep_pictures_gb
        return [f"for {days:g} days"] * bool(days) + [f"up to {gigabytes:g} GiB"] * bool(gigabytes)

    def announce(self) -> None:
        """Say in the log what is served; loudly if it is the demo model."""
        model, devices = self.model, self.devices
        level = logging.WARNING if model.is_demo else logging.INFO
        if self.project is None:
            what = f"{model.name} ({model.variant}, {model.sampler})"
        else:
            what = f"the project {self.project} paints, with {model.path}"
        lines = [
            f"HiDream Server: {what}",
            f"on {devices.kind.name} device {','.join(str(n) for n in self.used)}"
            f" ({devices.reason}), layout {self.layout}, computing in {devices.kind.dtype}",
        ]
        if kept := self._kept():
            lines.append(f"pictures are kept {' and '.join(kept)}")
        if self.settings.replicas > 1:
            lines.append(f"{self.settings.replicas} replicas, each with its own picture")
        if idle := [device for device in devices.ids if device not in self.used]:
            lines.append(f"idle: {devices.kind.name} device {','.join(str(n) for n in idle)}")
        if devices.kind.is_accelerator and self.room.device_bytes is None:
            lines.append(
                "how much memory a device has is not known: whether all fits is not checked"
            )
        if self.project is None and (offloaded := self._offloaded(self.layout)):
            lines.append(f"offloaded to the host's memory between prompts: {', '.join(offloaded)}")
        lines += devices.kind.complaints(devices.ids) + devices.kind.doubts(os.environ)
        if model.is_demo and self.project is None:
            lines.append(DEMO_NOTICE)
        for line in ("=" * 78, *lines, "=" * 78):
            logger.log(level, "%s", line)


def _waiting(plan: Sequence[RankMemory]) -> list[str]:
    """Return the encoders that wait in the host's memory."""
    return [name for rank in plan for name in rank.offloaded]


def decide(settings: Settings) -> Serving:
    """Return the serving for these settings; raise ConfigurationError for what cannot be."""
    require_torch()
    check_tls(settings)
    if settings.otlp_endpoint is not None:
        require_exporter()
    project = _project(settings)
    model = choose_model(settings)
    devices = choose_devices(settings, demo=model.is_demo)
    room = Room(
        device_bytes=devices.kind.memory(devices.ids),
        dtype_bytes=devices.kind.dtype_bytes,
        prompt_cache_bytes=settings.prompt_cache_mb * 2**20,
        max_running=settings.max_running,
        offload=settings.offload_encoders,
    )
    cards = _cards(devices, settings.replicas)

    def possible(layout: Layout) -> bool:
        # What a project holds in memory is its own business: it may offload what does not fit.
        if project is not None:
            return _of_project(layout)
        return fits(plan_memory(model, layout, room), room)

    layout = choose_layout(settings, model, cards, possible)
    if settings.compile and layout.ranks > layout.cfg:
        raise LayoutUnavailableError(
            f"The layout {layout} is not possible with --compile: ranks that speak to each other"
            " inside a block cannot be compiled; cfg2 can, or one device."
        )
    if project is None:
        check_memory(plan_memory(model, layout, room), room, layout)
    elif not _of_project(layout):
        raise LayoutUnavailableError(
            f"The layout {layout} is not possible with --executor project: the project knows"
            " tp and ep only."
        )
    return Serving(settings, model, devices, layout, room, project)


def _of_project(layout: Layout) -> bool:
    """The first version's project splits tensors and experts only."""
    return layout.cfg * layout.sp == 1


def _cards(devices: DeviceChoice, replicas: int) -> int:
    """Return how many devices each replica has."""
    cards = len(devices.ids) // replicas
    if cards == 0:
        raise LayoutUnavailableError(
            f"{replicas} replicas need as many devices, and there are {len(devices.ids)}: give"
            " more with -d or -c, or fewer --replicas."
        )
    return cards


def _project(settings: Settings) -> Path | None:
    """Return the folder that is to paint, if one is; one that is given must exist anyway."""
    if settings.executor == "project":
        return find_project(settings.project_path)
    if settings.project_path is not None:
        find_project(settings.project_path)
    return None


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise PortTakenError, naming the way out, if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio lets answers leave at once (TCP_NODELAY) only where the protocol is said to be TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise ConfigurationError(
                f"Port {port} on {host} cannot be opened: {error.strerror}."
            ) from error
        other = port + 1 if port < _LAST_PORT else port - 1
        raise PortTakenError(
            f"Port {port} on {host} is in use: choose another, like --port {other}."
        ) from error
    return listener
