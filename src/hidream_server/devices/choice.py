"""Chooses the devices to serve on from what was asked for and what is there."""

from dataclasses import dataclass

from hidream_server.devices.cpu import CPU
from hidream_server.devices.cuda import CUDA
from hidream_server.devices.device import DeviceKind
from hidream_server.devices.npu import NPU
from hidream_server.errors import DeviceListError, DeviceUnavailableError
from hidream_server.settings import Settings

#: In order of preference.
KINDS: dict[str, DeviceKind] = {kind.name: kind for kind in (NPU, CUDA, CPU)}


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """The devices of the worker group, and why these."""

    kind: DeviceKind
    ids: tuple[int, ...]
    reason: str


def choose_devices(settings: Settings, demo: bool = False) -> DeviceChoice:
    """Return the devices these settings ask for; the demo model prefers the CPU."""
    ids = _ids(settings)
    kind, reason = _kind(settings.device_type, demo)
    _check_present(kind, ids)
    return DeviceChoice(kind, ids, reason)


def _ids(settings: Settings) -> tuple[int, ...]:
    """Return the device ids; a list and a count that are both given must agree."""
    if settings.devices is None:
        return tuple(range(settings.device_count or 1))
    if settings.device_count not in (None, len(settings.devices)):
        raise DeviceListError(
            f"--device-count is {settings.device_count}, but --devices lists"
            f" {len(settings.devices)}: leave one of them out."
        )
    return settings.devices


def _kind(asked: str | None, demo: bool) -> tuple[DeviceKind, str]:
    if asked is not None:
        return KINDS[asked], "asked for"
    if demo:
        return CPU, "the demo model runs on the CPU"
    passed_over = ""
    for kind in KINDS.values():
        count = kind.count()
        obstacle = kind.obstacle() if count else None
        if count and obstacle is None:
            found = f"{count} found" if kind.is_accelerator else "no card found"
            return kind, found + passed_over
        if obstacle is not None:
            passed_over += f"; {count} {kind.name} not used: {obstacle}"
    raise DeviceUnavailableError


def _check_present(kind: DeviceKind, ids: tuple[int, ...]) -> None:
    obstacle, count = kind.obstacle(), kind.count()
    if obstacle is not None:
        absent_too = "" if count else f"; and this machine has no {kind.name}"
        raise DeviceUnavailableError(f"-t {kind.name} cannot be used: {obstacle}{absent_too}.")
    absent = [device for device in ids if device >= max(count, kind.sharing)]
    if absent:
        there = f"{count} of type {kind.name}, numbered from 0" if count else f"no {kind.name}"
        raise DeviceUnavailableError(
            f"Device {absent[0]} was asked for, but this machine has {there}:"
            " choose others with -d, or another type with -t."
        )
