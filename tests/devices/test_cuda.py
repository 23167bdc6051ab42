"""NVIDIA GPUs, counted and checked without importing torch."""

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from hidream_server.devices import cuda
from hidream_server.devices.cuda import CUDA


@pytest.fixture
def driver(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    folder = tmp_path / "gpus"
    monkeypatch.setattr(cuda, "DRIVER_FOLDER", folder)
    return folder


@pytest.fixture
def torch_build(tmp_path: Path, monkeypatch):
    """Return a function that puts a torch of this build in the place of the installed one."""

    def build(version: str | None) -> None:
        spec = None
        if version is not None:
            (tmp_path / "version.py").write_text(version)
            spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)

    return build


def test_without_a_driver_there_is_none(driver):
    assert CUDA.count() == 0


def test_the_drivers_folders_are_counted(driver):
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (driver / name).mkdir(parents=True)
    assert CUDA.count() == 2


@pytest.mark.parametrize(
    ("exported", "count", "first"),
    [("3,1", 2, "3"), ("GPU-8a, GPU-8b", 2, "GPU-8a"), ("", 0, None)],
)
def test_device_numbers_count_within_what_the_user_exported(
    driver, monkeypatch, exported, count, first
):
    for number in range(4):
        (driver / f"0000:0{number}:00.0").mkdir(parents=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", exported)
    assert CUDA.count() == count
    if first is not None:
        assert CUDA.environment([0], 1)["CUDA_VISIBLE_DEVICES"] == first


def test_a_torch_built_for_cuda_is_no_obstacle(torch_build):
    torch_build("cuda = '13.0'\n")
    assert CUDA.obstacle() is None


@pytest.mark.parametrize("version", ["cuda = None\n", "__version__ = '2.13.0+cpu'\n"])
def test_a_torch_built_without_cuda_is_an_obstacle(torch_build, version):
    torch_build(version)
    assert "without CUDA" in CUDA.obstacle()


def test_no_torch_is_an_obstacle(torch_build):
    torch_build(None)
    assert "not installed" in CUDA.obstacle()


def test_the_installed_torch_is_judged_as_it_judges_itself():
    import torch

    assert (CUDA.obstacle() is None) == (torch.version.cuda is not None)


def test_torch_is_judged_without_importing_it():
    code = (
        "import sys; from hidream_server.devices.cuda import CUDA; CUDA.obstacle();"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_rank_sees_the_chosen_devices_only(driver):
    for number in range(3):
        (driver / f"0000:0{number}:00.0").mkdir(parents=True)
    assert CUDA.environment((2, 0), 1)["CUDA_VISIBLE_DEVICES"] == "2,0"


def test_cards_are_numbered_as_the_tools_number_them_unless_the_user_says_so(driver, monkeypatch):
    assert CUDA.environment((), 1)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert CUDA.environment((), 1)["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
