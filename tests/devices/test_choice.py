"""Which devices are served on, and how a choice that cannot be is refused."""

from collections.abc import Callable

import pytest

from hidream_server.devices import choice
from hidream_server.devices.choice import KINDS, choose_devices
from hidream_server.devices.device import DeviceKind
from hidream_server.errors import (
    ConfigurationError,
    DeviceListError,
    DeviceUnavailableError,
)
from hidream_server.settings import load_settings


def kind(name: str, count: int, obstacle: str | None = None) -> DeviceKind:
    """Return a kind of device of which there are so many on this machine."""
    return DeviceKind(
        name=name,
        is_accelerator=name != "cpu",
        extension=None,
        dtype="float32",
        dtype_bytes=4,
        backend="gloo",
        mixture="loop",
        count=lambda: count,
        obstacle=lambda: obstacle,
        environment=lambda devices, in_use: {},
    )


@pytest.fixture
def machine(monkeypatch) -> Callable[..., None]:
    """Return a function that says what there is on this machine."""

    def has(npu: int = 0, cuda: int = 0, cpu: int = 4, obstacle: str | None = None) -> None:
        """Say how many there are; the obstacle is that of the NPUs."""
        kinds = {
            "npu": kind("npu", npu, obstacle),
            "cuda": kind("cuda", cuda),
            "cpu": kind("cpu", cpu),
        }
        monkeypatch.setattr(choice, "KINDS", kinds)
        monkeypatch.setattr(choice, "CPU", kinds["cpu"])

    return has


def chosen(demo: bool = False, **flags: str) -> tuple[str, tuple[int, ...]]:
    found = choose_devices(load_settings(flags, environ={}), demo)
    assert found.reason
    return found.kind.name, found.ids


def refusal(error: type[ConfigurationError], demo: bool = False, **flags: str) -> str:
    """Return the one sentence with which these flags are refused."""
    with pytest.raises(error) as caught:
        choose_devices(load_settings(flags, environ={}), demo)
    message = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in message
    assert message.endswith(".")
    assert message.count(". ") == 0
    return message


def test_every_kind_is_known_by_its_name_in_order_of_preference():
    assert list(KINDS) == ["npu", "cuda", "cpu"]
    assert all(kind.name == name for name, kind in KINDS.items())


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"npu": 8, "cuda": 8}, "npu"),
        ({"cuda": 8}, "cuda"),
        ({}, "cpu"),
        ({"npu": 8, "cuda": 1, "obstacle": "torch_npu is not installed"}, "cuda"),
    ],
)
def test_without_any_option_device_0_of_the_best_kind_is_chosen(machine, there, expected):
    machine(**there)
    assert chosen() == (expected, (0,))


def test_the_demo_model_goes_to_the_cpu_unless_another_type_is_asked_for(machine):
    machine(npu=8, cuda=8)
    assert chosen(demo=True) == ("cpu", (0,))
    assert chosen(demo=True, device_type="cuda") == ("cuda", (0,))


def test_the_type_that_is_asked_for_is_taken(machine):
    machine(npu=8, cuda=8)
    assert chosen(device_type="cuda") == ("cuda", (0,))
    assert chosen(device_type="cpu") == ("cpu", (0,))


def test_the_device_that_is_asked_for_is_taken(machine):
    machine(npu=8)
    assert chosen(devices="5") == ("npu", (5,))
    assert chosen(devices="5", device_count="1") == ("npu", (5,))
    assert chosen(device_count="1") == ("npu", (0,))


@pytest.mark.parametrize(("devices", "count"), [("0,1", "1"), ("0", "4"), ("0,1,2", "2")])
def test_a_list_and_a_count_that_contradict_each_other_are_refused(machine, devices, count):
    machine(npu=8)
    message = refusal(DeviceListError, devices=devices, device_count=count)
    assert f"--device-count is {count}" in message
    assert f"lists {devices.count(',') + 1}" in message


@pytest.mark.parametrize(
    "flags", [{"devices": "0,8"}, {"devices": "8"}, {"device_count": "9"}], ids=str
)
def test_a_device_that_is_not_there_is_named_and_so_is_what_there_is(machine, flags):
    machine(npu=8)
    message = refusal(DeviceUnavailableError, **flags)
    assert "Device 8" in message
    assert "has 8" in message
    assert "npu" in message
    assert "-d" in message


def test_a_type_of_which_there_is_none_is_refused(machine):
    machine()
    message = refusal(DeviceUnavailableError, device_type="cuda")
    assert "has no cuda" in message
    assert "-t" in message


def test_a_type_that_torch_cannot_use_is_refused_with_the_reason(machine):
    machine(npu=8, obstacle="torch_npu is not installed")
    message = refusal(DeviceUnavailableError, device_type="npu")
    assert "torch_npu is not installed" in message
    assert "-t npu" in message


def test_a_machine_without_any_device_is_refused(machine):
    machine(cpu=0)
    refusal(DeviceUnavailableError)


@pytest.mark.parametrize("flags", [{"devices": "2,3"}, {"device_count": "4"}], ids=str)
def test_several_devices_are_taken_in_the_order_given(machine, flags):
    machine(npu=8)
    ids = choose_devices(load_settings(flags, environ={})).ids
    assert ids == ((2, 3) if "devices" in flags else (0, 1, 2, 3))
