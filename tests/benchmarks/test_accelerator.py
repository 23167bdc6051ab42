"""What is asked of an accelerator, of one that is not there: a stand-in with torch.cuda's names."""

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from benchmarks.full_size import machine
from benchmarks.full_size.bench import HOISTED, STOCK, Bench
from benchmarks.full_size.parts.around import measure_pictures
from benchmarks.full_size.parts.steps import measure_steps
from benchmarks.full_size.report import Report
from benchmarks.full_size.sizes import SMALL
from benchmarks.full_size.timing import Budget, calls
from benchmarks.full_size.waits import count_waits
from hidream_server.devices.cpu import CPU
from hidream_server.worker.device import RankDevice


class Card:
    """Stands for torch.cuda; an event's time is known once the card was waited for."""

    def __init__(self) -> None:
        self.waited = self.peak_reset = False

    def synchronize(self, _device: torch.device) -> None:
        self.waited = True

    def Event(self, enable_timing: bool) -> "Event":
        assert enable_timing
        return Event(self)

    def mem_get_info(self, _device: torch.device) -> tuple[int, int]:
        return 2 * 10**9, 10**10

    def memory_reserved(self, _device: torch.device) -> int:
        return 10**9

    def reset_peak_memory_stats(self, _device: torch.device) -> None:
        self.peak_reset = True

    def max_memory_allocated(self, _device: torch.device) -> int:
        assert self.peak_reset
        return 5 * 10**9

    def get_device_name(self, _device: torch.device) -> str:
        return "a card"

    def set_device(self, _device: torch.device) -> None:
        pass

    def empty_cache(self) -> None:
        pass


class Event:
    def __init__(self, card: Card) -> None:
        self._card = card

    def record(self) -> None:
        self._card.waited = False
        self.at = time.perf_counter()

    def elapsed_time(self, later: "Event") -> float:
        assert self._card.waited
        return 1000 * (later.at - self.at)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[RankDevice]:
    stand_in = Card()
    # What a stand-in has must be there.
    names = [name for name in vars(Card) if not name.startswith("_")]
    assert all(hasattr(torch.cuda, name) for name in names)
    monkeypatch.setattr(torch, "get_device_module", lambda *_: stand_in)
    return RankDevice(torch.device("cpu"), torch.bfloat16, is_accelerator=True)


@pytest.fixture
def bench(card: RankDevice) -> Bench:
    return Bench(SMALL, card, replace(CPU, mixture="grouped_mm"), Budget(3600.0), rounds=1)


def test_times_are_those_of_events_that_were_waited_for(card: RankDevice) -> None:
    seconds = calls(card, lambda: time.sleep(0.002), 3)
    assert len(seconds) == 3
    assert all(0.002 <= each < 10 for each in seconds)


def test_memory_is_what_is_free_and_what_is_held(bench: Bench) -> None:
    assert bench.free_bytes() == 3 * 10**9
    assert bench.peak_bytes(lambda: None) == 5e9
    assert machine.device_name(bench.device) == "a card"


def test_steps_and_pictures_say_how_much_memory_they_took(bench: Bench) -> None:
    report = Report({})
    measure_steps(bench, report)
    measure_pictures(bench, report)
    assert report.missing == {}
    peaks = {(row.part, row.name): row.samples for row in report.rows if row.what == "peak memory"}
    assert peaks["step", STOCK] == peaks["step", HOISTED] == [5.0]
    assert len([part for part, _ in peaks if part == "pictures"]) == 3


def test_cuda_counts_waits_by_what_its_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def wait_twice() -> None:
        for text in ("called a synchronizing CUDA operation", "something else") * 2:
            warnings.warn(text, stacklevel=1)

    assert count_waits(torch.device("cuda"), wait_twice) == 2
    assert modes == ["warn", 0]
