"""Decides, before anything is started, what will be served and on which devices.

Refuses with one sentence what cannot be; takes milliseconds, because no tensor and no torch is
touched.
"""

import errno
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from hidream_server.demo import DEMO_NOTICE
from hidream_server.devices.choice import DeviceChoice, choose_devices
from hidream_server.engine.launchers.project import find_project
from hidream_server.engine.launchers.torchrun import require_torch
from hidream_server.errors import ConfigurationError, LayoutUnavailableError, PortTakenError
from hidream_server.ipc.messages import LoadModel, LoadProject
from hidream_server.layouts.choice import choose_layout
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import check_memory, plan_memory
from hidream_server.model_directory.choice import choose_model
from hidream_server.model_directory.description import ModelDescription
from hidream_server.settings import Settings

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
    #: The folder of the user's own project that is to paint, if one is.
    project: Path | None = None

    @property
    def used(self) -> tuple[int, ...]:
        """The devices that the layout has work for."""
        return self.devices.ids[: self.layout.ranks]

    def load_command(self, layout: Layout) -> LoadModel | LoadProject:
        """Return what each rank of a group with this layout is told first."""
        if self.project is not None:
            return LoadProject(
                project_path=str(self.project),
                model_path=str(self.model.path),
                extra_model_path=str(self.model.extra_path) if self.model.extra_path else None,
                layout=str(layout),
                log_level=self.settings.log_level,
            )
        return LoadModel(
            model_path=str(self.model.path),
            extra_model_path=str(self.model.extra_path) if self.model.extra_path else None,
            device_type=self.devices.kind.name,
            layout=str(layout),
            log_level=self.settings.log_level,
            prompt_cache_bytes=self.settings.prompt_cache_mb * 2**20,
        )

    def announce(self) -> None:
        """Say in the log what is served; loudly if it is the demo model."""
        model, devices = self.model, self.devices
        level = logging.WARNING if model.is_demo else logging.INFO
        lines = [
            f"HiDream Server: {model.name} ({model.variant}, {model.sampler})",
            f"on {devices.kind.name} device {','.join(str(n) for n in self.used)}"
            f" ({devices.reason}), layout {self.layout}, computing in {devices.kind.dtype}",
        ]
        if idle := devices.ids[self.layout.ranks :]:
            lines.append(f"idle: {devices.kind.name} device {','.join(str(n) for n in idle)}")
        lines += devices.kind.doubts(os.environ)
        if model.is_demo:
            lines.append(DEMO_NOTICE)
        for line in ("=" * 78, *lines, "=" * 78):
            logger.log(level, "%s", line)


def decide(settings: Settings) -> Serving:
    """Return the serving for these settings; raise ConfigurationError for what cannot be."""
    require_torch()
    project = None
    if settings.executor == "project" or settings.project_path is not None:
        project = find_project(settings.project_path)
    model = choose_model(settings)
    devices = choose_devices(settings, demo=model.is_demo)
    layout = choose_layout(settings, model, len(devices.ids))
    if settings.executor == "resident":
        cache_bytes = settings.prompt_cache_mb * 2**20
        plan = plan_memory(model, layout, devices.kind.dtype_bytes, cache_bytes)
        check_memory(plan, devices.kind.memory(devices.ids[: layout.ranks]), layout)
        return Serving(settings, model, devices, layout)
    # What a project holds in memory is its own business: it may offload what does not fit.
    if layout.cfg * layout.sp > 1:
        raise LayoutUnavailableError(
            f"The layout {layout} is not possible with --executor project: the project knows"
            " tp and ep only."
        )
    return Serving(settings, model, devices, layout, project)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise PortTakenError, naming the way out, if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
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
