"""Decides, before anything is started, what will be served and on which devices.

Refuses with one sentence what cannot be; takes milliseconds, because no tensor and no torch is
touched.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hidream_server.cli.disk import check_folder
from hidream_server.cli.serving import Serving
from hidream_server.cli.stores import check_results
from hidream_server.cli.tls import check_tls
from hidream_server.devices.choice import DeviceChoice, choose_devices
from hidream_server.engine.launchers.nodes import check_nodes, read_nodes
from hidream_server.engine.launchers.project import find_project
from hidream_server.engine.launchers.torchrun import require_torch
from hidream_server.errors import (
    Fp8Error,
    LayoutUnavailableError,
    NodesError,
    NotSharedError,
    StepCacheError,
)
from hidream_server.layouts.choice import choose_layout
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import Room, check_memory, fits, plan_memory
from hidream_server.model_directory.choice import choose_model
from hidream_server.model_directory.description import ModelDescription
from hidream_server.settings import Settings
from hidream_server.traces.exporting import require_exporter


def preconditions(settings: Settings) -> Iterator[Callable[[], object]]:
    """Yield what must be so whatever the model is; each raises ConfigurationError if it is not."""
    yield partial(check_tls, settings)
    if settings.otlp_endpoint is not None:
        yield require_exporter
    yield partial(check_nodes, settings)
    yield partial(check_results, settings)
    if settings.replicas:
        yield require_torch
        yield partial(_project, settings)
    else:
        yield partial(require_shared, settings)
    yield partial(check_folder, settings.data_dir, "--data-dir")
    yield partial(check_folder, settings.log_dir, "--log-dir")


def require_shared(settings: Settings) -> None:
    """Raise NotSharedError unless what is kept is where other processes reach it."""
    if settings.database_url is None or settings.results is None:
        raise NotSharedError


def check_all(settings: Settings) -> None:
    """Raise ConfigurationError for the first precondition that is not met."""
    for check in preconditions(settings):
        check()


def decide(settings: Settings) -> Serving:
    """Return what the worker groups of these settings serve; raise ConfigurationError."""
    check_all(settings)
    if settings.node_rank:
        raise NodesError(
            "A server, and the supervisor of a group, are on the machine with --node-rank 0: the"
            " others run hidream worker."
        )
    model = choose_model(settings)
    return arrange(settings, model, choose_devices(settings, demo=model.is_demo))


def arrange(settings: Settings, model: ModelDescription, devices: DeviceChoice) -> Serving:
    """Return how a model is served on these devices; raise ConfigurationError if it cannot be."""
    project = _project(settings)
    room = Room(
        device_bytes=devices.kind.memory(devices.ids),
        dtype_bytes=devices.kind.dtype_bytes,
        prompt_cache_bytes=settings.prompt_cache_mb * 2**20,
        max_running=settings.max_running,
        offload=settings.offload_encoders,
        fp8=settings.fp8,
    )
    nodes = read_nodes(settings, _cards(devices, settings.replicas))

    def possible(layout: Layout) -> bool:
        # What a project holds in memory is its own business: it may offload what does not fit.
        if project is not None:
            return _of_project(layout)
        return nodes.allows(layout) and fits(plan_memory(model, layout, room), room)

    layout = choose_layout(settings, model, nodes.all_devices, possible)
    if nodes.several and layout.ranks != nodes.all_devices:
        raise LayoutUnavailableError(
            f"The layout {layout} is not possible: it takes {layout.ranks} devices, and"
            f" {nodes.count} machines have {nodes.all_devices}; choose one that takes them all with"
            " --layout, or fewer devices with -d."
        )
    _check_step_cache(settings, model, project)
    _check_fp8(settings, devices, project)
    if project is None:
        check_memory(plan_memory(model, layout, room), room, layout)
    elif not _of_project(layout):
        raise LayoutUnavailableError(
            f"The layout {layout} is not possible with --executor project: the project knows"
            " tp and ep only."
        )
    return Serving(settings, model, devices, layout, room, nodes, project)


def _check_step_cache(settings: Settings, model: ModelDescription, project: Path | None) -> None:
    """Raise StepCacheError where steps are to be reused and none ever would be."""
    if not settings.step_cache:
        return
    if project is not None:
        raise StepCacheError(
            "--step-cache is not possible with --executor project: its steps are its own."
        )
    if model.draws_noise:
        raise StepCacheError(
            f"--step-cache is of no use with {model.name}: its sampler, {model.sampler}, draws new"
            " noise in each step, so that none is like the one before. Leave the option out."
        )


def _check_fp8(settings: Settings, devices: DeviceChoice, project: Path | None) -> None:
    """Raise Fp8Error where fp8 is asked for and cannot be had."""
    if not settings.fp8:
        return
    if project is not None:
        raise Fp8Error(
            "--fp8 is not possible with --executor project: what it computes is its own business."
        )
    if why := devices.kind.fp8_obstacle(devices.ids):
        raise Fp8Error(f"--fp8 is not possible here: {why}. Leave the option out.")


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
