"""Ascend NPUs, counted and checked without importing torch."""

import importlib.util
from pathlib import Path

import pytest

from hidream_server.devices import npu
from hidream_server.devices.choice import choose_devices
from hidream_server.devices.npu import NPU
from hidream_server.errors import DeviceUnavailableError
from hidream_server.settings import Settings


@pytest.fixture
def devices(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(npu, "DEVICE_FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def torch_npu(monkeypatch):
    """Return a function that says whether torch_npu is installed."""

    def installed(is_there: bool) -> None:
        spec = object() if is_there else None
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)

    return installed


def test_only_numbered_devices_are_counted(devices):
    assert NPU.count() == 0
    for name in ("davinci0", "davinci1", "davinci10", "davinci_manager", "davincix", "tty0"):
        (devices / name).touch()
    assert NPU.count() == 3


def test_a_machine_without_a_device_folder_has_none(devices, monkeypatch):
    monkeypatch.setattr(npu, "DEVICE_FOLDER", devices / "nowhere")
    assert NPU.count() == 0


def test_torch_npu_is_needed(torch_npu):
    torch_npu(True)
    assert NPU.obstacle() is None
    torch_npu(False)
    assert "pip install 'hidream-server[npu]'" in NPU.obstacle()


def test_asking_for_an_npu_without_torch_npu_names_the_fix_in_one_sentence(devices, torch_npu):
    (devices / "davinci0").touch()
    torch_npu(False)
    with pytest.raises(DeviceUnavailableError) as caught:
        choose_devices(Settings(device_type="npu"))
    message = str(caught.value)
    assert "-t npu" in message
    assert "torch_npu is not installed" in message
    assert "pip install" in message
    assert "\n" not in message


def test_a_rank_sees_the_chosen_devices_in_the_order_the_runtime_needs():
    assert NPU.environment((10, 2, 0), 1)["ASCEND_RT_VISIBLE_DEVICES"] == "0,2,10"


def test_what_the_user_exported_wins(monkeypatch):
    assert NPU.environment((0,), 1)["HCCL_EXEC_TIMEOUT"] == "300"
    monkeypatch.setenv("HCCL_EXEC_TIMEOUT", "1200")
    assert NPU.environment((0,), 1)["HCCL_EXEC_TIMEOUT"] == "1200"


def test_names_that_nobody_reads_are_doubted():
    assert NPU.doubts({"HCCL_BUFFSIZE": "2048", "PATH": "/bin"}) == []
    assert NPU.doubts({"HCCL_TIMEOUT": "7200", "HCCL_DISABLE": "1"}) == [
        "HCCL_TIMEOUT has no effect.",
        "HCCL_DISABLE has no effect.",
    ]


def test_a_stream_time_out_of_seconds_is_doubted():
    [doubt] = NPU.doubts({"ACL_STREAM_TIMEOUT": "7200"})
    assert "milliseconds: 7200 is 7.2 s" in doubt
    assert NPU.doubts({"ACL_STREAM_TIMEOUT": "7200000"}) == []
