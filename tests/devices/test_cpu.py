"""The CPU as a device."""

import os

import pytest

from hidream_server.devices.cpu import CPU


def test_there_are_as_many_as_cores_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 4, 7})
    assert CPU.count() == 3


def test_nothing_stands_in_its_way():
    assert CPU.obstacle() is None


@pytest.mark.parametrize(("in_use", "threads"), [(1, "8"), (3, "2"), (20, "1")])
def test_all_ranks_share_the_cores(monkeypatch, in_use, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    assert CPU.environment((0,), in_use)["OMP_NUM_THREADS"] == threads


def test_a_thread_that_waits_gives_its_core_away(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert CPU.environment((0,), 1)["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_NUM_THREADS", "3"), ("OMP_WAIT_POLICY", "ACTIVE")]
)
def test_what_the_user_has_exported_is_kept(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert CPU.environment((0,), 1).get(name, value) == value


def test_the_numbers_are_computed_in_32_bits():
    assert (CPU.dtype, CPU.dtype_bytes) == ("float32", 4)
