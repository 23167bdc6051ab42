"""Brings a rank from the command to load to its first turn: weights, warm-up, profile.

All ranks of a group do so together; on a failure each says why for itself.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hidream_server.devices.choice import KINDS
from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.messages import GroupReady, LoadFailed, LoadModel, Profile
from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.reading import describe
from hidream_server.parallel.place import take_place
from hidream_server.worker.assembly import assemble
from hidream_server.worker.broadcast import Broadcast
from hidream_server.worker.device import open_device
from hidream_server.worker.model_runner import ModelRunner
from hidream_server.worker.outbox import first_line
from hidream_server.worker.profiling import profile_model

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _CannotLoadError(Exception):
    """This rank's part of the loading failed."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A warm model, and what is known of it."""

    runner: ModelRunner
    profile: Profile


def load_model(
    load: LoadModel, rank: int, ranks: Broadcast[Any], channel: RankChannel
) -> Loaded | None:
    """Load the model; once all ranks are warm, rank 0 says so.

    Returns None if that failed, which has been said, too.
    """
    start = time.perf_counter()
    try:
        runner = _together(ranks, partial(_load_runner, load))
        logger.info("Warm after %.2f s", _together(ranks, runner.warm_up))
        profile = _together(ranks, lambda: load.profile or profile_model(runner, load, ranks))
    except _CannotLoadError as error:
        logger.exception("The model could not be loaded")
        channel.send(LoadFailed(reason=str(error)))
        return None
    if rank == 0:
        load_s = time.perf_counter() - start
        memory = runner.memory_bytes()
        channel.send(GroupReady(load_s=load_s, memory_bytes=memory, profile=profile))
    return Loaded(runner, profile)


def _together(ranks: Broadcast[Any], stage: Callable[[], T]) -> T:
    """Do a stage and wait for the other ranks.

    They read files at different speeds; collectives on devices would not wait for long. Where
    another rank has failed, and said why, waiting raises: there is nothing to be said here.
    """
    try:
        result = stage()
    except Exception as error:
        raise _CannotLoadError(first_line(error)) from error
    ranks.wait_for_all()
    return result


def _load_runner(load: LoadModel) -> ModelRunner:
    extra_path = None if load.extra_model_path is None else Path(load.extra_model_path)
    description = describe(Path(load.model_path), extra_path)
    kind = KINDS[load.device_type]
    device = open_device(kind, int(os.environ["LOCAL_RANK"]))
    place = take_place(Layout.parse(load.layout), int(os.environ["RANK"]))
    return assemble(
        description,
        place,
        device,
        kind.mixture,
        load.prompt_cache_bytes,
        load.offloaded_encoders,
        load.compile,
        load.step_cache,
        load.fp8,
    )
