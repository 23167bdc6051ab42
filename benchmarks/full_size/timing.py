"""Seconds on a device, arms in turn, and a budget of time."""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch

from hidream_server.worker.device import RankDevice

#: Runs once; returns seconds, one or several.
Arm = Callable[[], list[float]]


class Stopwatch:
    """Takes marks in the device's own stream; where there is none, by the host's clock."""

    def __init__(self, device: RankDevice) -> None:
        self._device = device
        self._marks: list[Any] = []

    def mark(self) -> None:
        if self._device.is_accelerator:
            event = torch.get_device_module(self._device.torch_device).Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Wait for the device; return the seconds between marks, which are forgotten."""
        self._device.synchronize()
        marks, self._marks = self._marks, []
        pairs = list(pairwise(marks))
        if self._device.is_accelerator:
            return [start.elapsed_time(stop) / 1000 for start, stop in pairs]
        return [stop - start for start, stop in pairs]


class Budget:
    """Seconds that may be used up."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        return self._end - self._clock()


def in_turn(arms: Mapping[str, Arm], rounds: int, budget: Budget) -> dict[str, list[list[float]]]:
    """Run all arms once in each round; return for each what it returned in each round.

    The order turns around with every round, so that a drift of the machine favours nobody. After
    the first round no other is begun for which there may be no time.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in arms}
    longest = 0.0
    for number in range(rounds):
        if number and longest > budget.left:
            break
        before = budget.left
        for name in list(arms) if number % 2 == 0 else list(arms)[::-1]:
            found[name].append(arms[name]())
        longest = max(longest, before - budget.left)
    return found


def calls(device: RankDevice, call: Callable[[], object], count: int) -> list[float]:
    """Return the seconds of each of some calls, after one that warms up."""
    call()
    watch = Stopwatch(device)
    watch.mark()
    for _ in range(count):
        call()
        watch.mark()
    return watch.seconds()
