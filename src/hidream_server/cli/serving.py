"""What will be served, once it is decided; what the log and the ranks are told of it."""

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from hidream_server import __version__
from hidream_server.demo import DEMO_NOTICE
from hidream_server.devices.choice import DeviceChoice
from hidream_server.engine.launchers.nodes import Nodes
from hidream_server.ipc.messages import LoadModel, LoadProject, Profile
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import RankMemory, Room, fits, plan_memory
from hidream_server.model_directory.description import ModelDescription, ModelTraits
from hidream_server.queue.outlook import Outlook
from hidream_server.scheduling.widths import WIDEST
from hidream_server.settings import Settings
from hidream_server.task import TaskParams

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """What will be served, and on what."""

    settings: Settings
    model: ModelDescription
    devices: DeviceChoice
    #: How the group splits the work, if all is well.
    layout: Layout
    room: Room
    #: The machines that the group lies on.
    nodes: Nodes
    #: The folder of the user's own project that is to paint, if one is.
    project: Path | None = None

    @property
    def replica_devices(self) -> list[tuple[int, ...]]:
        """The devices of each worker group, which may need fewer."""
        ids, replicas = self.devices.ids, self.settings.replicas
        count = len(ids) // replicas
        return [ids[n * count : (n + 1) * count] for n in range(replicas)]

    @property
    def used(self) -> tuple[int, ...]:
        """The devices that there is work for at first; those left over stand in for lost ones."""
        ranks = self.ranks_here(self.layout)
        return tuple(device for devices in self.replica_devices for device in devices[:ranks])

    def prepare(self) -> None:
        """Leave nothing of what an earlier life of the server's had the project do."""
        shutil.rmtree(self.project_work, ignore_errors=True)
        if self.project is not None:
            self.project_work.mkdir()

    @property
    def project_work(self) -> Path:
        """Where a project's files are while it paints; nothing in it outlives the server."""
        return (self.settings.data_dir / "project").absolute()

    @property
    def component_bytes(self) -> dict[str, int]:
        """What the weights of each component take, in the dtype they are computed in."""
        size = self.devices.kind.dtype_bytes
        return {part.name: part.parameters * size for part in self.model.components}

    def memory(self, layout: Layout) -> list[RankMemory]:
        """Return what each rank of a resident group with this layout holds."""
        return plan_memory(self.model, layout, self._room(layout))

    def _room(self, layout: Layout) -> Room:
        """Do without fp8 where there is no memory for that: fewer devices must do, too."""
        exact = replace(self.room, fp8=False)
        return self.room if fits(plan_memory(self.model, layout, self.room), self.room) else exact

    def fits(self, layout: Layout) -> bool:
        """There is memory for a layout, and the machines can have it."""
        return self.nodes.allows(layout) and fits(self.memory(layout), self.room)

    def control_host(self, layout: Layout) -> str:
        """Return where a supervisor listens for its ranks."""
        return self.nodes.control_host(layout.ranks)

    def ranks_here(self, layout: Layout) -> int:
        """Return how many ranks of a group are on this machine."""
        return self.nodes.here(layout.ranks)

    @property
    def places(self) -> int:
        """How many tasks a worker group has on hand."""
        return 1 if self.project is not None else self.settings.max_running

    def new_outlook(self) -> Outlook:
        return new_outlook(self.settings, self.model, self.places)

    @property
    def profile_name(self) -> str:
        """What a profile holds for, beside the layout: model, device, threads, version."""
        kind = self.devices.kind
        ranks = self.ranks_here(self.layout) * self.settings.replicas
        threads = kind.environment(self.used, ranks).get("OMP_NUM_THREADS", "")
        compiled = ".compiled" if self.settings.compile else ""
        fp8 = ".fp8" if self.settings.fp8 else ""
        machines = f".{self.nodes.count}machines" if self.nodes.several else ""
        how = f"{kind.name}{threads}{compiled}{fp8}{machines}"
        # Two folders of one name may hold two models.
        folder = crc32(str(self.model.path.resolve()).encode())
        return f"{self.model.name}-{folder:08x}.{how}.{__version__}"

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
            step_cache=self.settings.step_cache,
            fp8=self._room(layout).fp8,
            max_rows=self.settings.max_rows,
            max_row_tokens=self._full_size_rows(layout) * self.model.max_image_tokens,
            profile=profile,
        )

    def _full_size_rows(self, layout: Layout) -> int:
        """Return how many rows of the largest picture there is memory for; a guided one fits."""
        held, rows = self._offloaded(layout), 2
        while rows < WIDEST:
            plan = plan_memory(self.model, layout, replace(self._room(layout), rows=2 * rows))
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
        if lossy := self.settings.lossy:
            lines.append(f"lossy for tasks with infer_type Performance: {' and '.join(lossy)}")
        if kept := self._kept():
            lines.append(f"pictures are kept {' and '.join(kept)}")
        if self.nodes.several:
            lines.append(f"with as many devices on each of {self.nodes.count} machines")
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


def new_outlook(settings: Settings, model: ModelTraits, places: int) -> Outlook:
    """Return an outlook that knows nothing yet of how long steps take."""

    def tokens(params: TaskParams) -> int:
        return model.padded_tokens(params.width, params.height)

    return Outlook(
        tokens, places, settings.max_rows, lanes=max(1, settings.replicas), fp8=settings.fp8
    )


def _waiting(plan: Sequence[RankMemory]) -> list[str]:
    """Return the encoders that wait in the host's memory."""
    return [name for rank in plan for name in rank.offloaded]
