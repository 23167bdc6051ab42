"""Looks at all that a start needs, and finds everything that stands in its way, not the first."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from hidream_server.cli.deciding import decide, preconditions
from hidream_server.cli.disk import free_bytes
from hidream_server.cli.instance import check_free
from hidream_server.cli.listener import bind
from hidream_server.cli.serving import Serving
from hidream_server.cli.stores import check_database
from hidream_server.errors import ConfigurationError, ModelDirectoryError
from hidream_server.settings import Settings

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
    #: None where it could not be decided.
    serving: Serving | None
    problems: list[Problem]
    warnings: list[str]
    #: Room for the database and the pictures.
    free_bytes: int

    @property
    def servable(self) -> bool:
        return not self.problems


def diagnose(settings: Settings) -> Diagnosis:
    """Look at everything; nothing is started or written."""
    problems = list(_problems(settings))
    serving = None
    try:
        serving = decide(settings) if settings.replicas else None
    except ConfigurationError as error:
        # One of the preconditions, as a rule, which was found already.
        problems += [problem for problem in _of(error) if problem not in problems]
    free = free_bytes(settings.data_dir)
    return Diagnosis(settings, serving, problems, list(_warnings(settings, serving, free)), free)


def _problems(settings: Settings) -> Iterator[Problem]:
    for check in _checks(settings):
        try:
            check()
        except ConfigurationError as error:
            yield from _of(error)


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
