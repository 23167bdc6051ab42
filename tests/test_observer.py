"""Whoever listens is told the same as all others, and can spoil nothing."""

import inspect
from typing import Any

import pytest

from hidream_server.observer import UNOBSERVED, EndReason, Observer, Observers

VERBS = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if name[0] != "_"]


class Recorder(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in VERBS:
            return super().__getattribute__(name)
        return lambda *what: self.told.append((name, *what))


class Broken(Observer):
    def __getattribute__(self, name: str) -> Any:
        if name not in VERBS:
            return super().__getattribute__(name)
        return lambda *_: 1 / 0


def arguments(verb: str) -> list[str]:
    return list(inspect.signature(getattr(Observer, verb)).parameters)[1:]


@pytest.mark.parametrize("verb", VERBS)
def test_all_are_told_everything_though_one_of_them_is_broken(
    verb: str, caplog: pytest.LogCaptureFixture
):
    first, last = Recorder(), Recorder()
    what = arguments(verb)
    getattr(Observers(first, Broken(), last), verb)(*what)
    assert first.told == last.told == [(verb, *what)]
    assert "counted or traced" in caplog.text


@pytest.mark.parametrize("verb", VERBS)
def test_where_nobody_listens_nothing_happens(verb: str):
    assert getattr(UNOBSERVED, verb)(*arguments(verb)) is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        ("RuntimeError: NPU out of memory. Tried to allocate 1 GiB", "out_of_memory"),
        (
            "RuntimeError: [enforce fail] CPUAllocator: can't allocate memory",
            "out_of_memory",
        ),
        ("OSError: [Errno 28] No space left on device", "disk"),
        ("ValueError: this prompt cannot be painted", "other"),
        ("", "other"),
    ],
)
def test_what_a_rank_says_is_one_of_few_reasons(said: str, reason: str):
    assert EndReason.of(said) == reason
