"""Looks at all that a start needs, and finds everything that stands in its way, not the first."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from hidream_server.cli.deciding import arrange, preconditions
from hidream_server.cli.disk import free_bytes
from hidream_server.cli.instance import check_free
from hidream_server.cli.listener import bind
from hidream_server.cli.serving import Serving
from hidream_server.cli.stores import check_database
from hidream_server.devices.choice import choose_devices
from hidream_server.errors import ConfigurationError, ModelDirectoryError
from hidream_server.model_directory.choice import choose_model
from hidream_server.model_directory.description import ModelDescription
from hidream_server.settings import Settings

T = TypeVar("T")

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that stands in the way: the code of its error, and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What would be served, if anything, and what is to be said of it."""

    settings: Settings
    #: None where there is none, or it is broken.
    model: ModelDescription | None
    #: None where it could not be decided.
    serving: Serving | None
    problems: list[Problem]
    warnings: list[str]
    #: Room for the database and the pictures.
    free_bytes: int

    @property
    def servable(self) -> bool:
        return not self.problems


class _Findings:
    """Collects what stands in the way, each once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def attempt(self, look: Callable[[], T]) -> T | None:
        """Return what can be had; None, and a problem, where it cannot."""
        try:
            return look()
        except ConfigurationError as error:
            self.problems += [one for one in _of(error) if one not in self.problems]
            return None


def diagnose(settings: Settings) -> Diagnosis:
    """Look at everything; nothing is started or written."""
    found = _Findings()
    for check in _checks(settings):
        found.attempt(check)
    model, serving = _work(settings, found) if settings.replicas else (None, None)
    free = free_bytes(settings.data_dir)
    warnings = list(_warnings(settings, serving, free))
    return Diagnosis(settings, model, serving, found.problems, warnings, free)


def _work(settings: Settings, found: _Findings) -> tuple[ModelDescription | None, Serving | None]:
    """Decide as far as it goes: a broken model keeps no one from hearing of missing devices."""
    model = found.attempt(partial(choose_model, settings))
    demo = model is not None and model.is_demo
    devices = found.attempt(partial(choose_devices, settings, demo))
    if model is None or devices is None:
        return model, None
    return model, found.attempt(partial(arrange, settings, model, devices))


def _checks(settings: Settings) -> Iterator[Callable[[], object]]:
    yield from preconditions(settings)
    yield partial(check_free, settings.data_dir)
    yield lambda: bind(settings.host, settings.port).close()
    yield partial(check_database, settings)


def _of(error: ConfigurationError) -> Iterator[Problem]:
    if isinstance(error, ModelDirectoryError):
        yield from (Problem(error.code, str(finding)) for finding in error.findings)
    else:
        yield Problem(error.code, str(error))


def _warnings(settings: Settings, serving: Serving | None, free: int) -> Iterator[str]:
    if serving is not None:
        devices = serving.devices
        yield from devices.kind.complaints(devices.ids)
        yield from devices.kind.doubts(os.environ)
        if not devices.kind.is_accelerator and len(devices.ids) > 1 and not settings.device_type:
            yield "Several devices were asked for: these are ranks on the CPU; give cards with -t."
        if devices.kind.is_accelerator and serving.room.device_bytes is None:
            yield "How much memory a device has is not known: whether all fits is not checked."
    if settings.results is None:
        yield from _lack_of_room(settings, free)


def _lack_of_room(settings: Settings, free: int) -> Iterator[str]:
    most = settings.keep_pictures_gb
    if not most or free < most * _GIB:
        bound = f"may take {most:g} GiB" if most else "may take any room"
        yield (
            f"Pictures {bound} (--keep-pictures-gb), and {free / _GIB:.1f} GiB are free at"
            f" {settings.data_dir.absolute()}."
        )
