"""What rank 0 decides for the next turn."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from hidream_server.ipc.messages import CancelTask, StartTask
from hidream_server.scheduling.active_task import Share
from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.widths import Widths
from hidream_server.worker.dispatcher import Dispatcher, Encoded
from hidream_server.worker.task_run import TaskRun
from tests.support import Clock, params

PROFILE = {64: {1: 1.0, 2: 2.0}}


@pytest.fixture
def pace() -> Pace:
    return Pace(PROFILE)


@pytest.fixture
def dispatcher(pace: Pace) -> Dispatcher:
    known = Dispatcher(Clock())
    known.know(pace, Widths(PROFILE, most=8))
    return known


def run(number: int, *reusing: bool, fp8: bool = False) -> TaskRun:
    """Return a task in the middle of its images, some of which reuse their next step."""
    task = params(num_images=len(reusing))
    start = StartTask(task_id=f"task {number}", attempt=1, arrived_at=0.0, params=task)
    images = [
        SimpleNamespace(steps_done=2, finished=False, reuses_next=each, fp8=fp8) for each in reusing
    ]
    return TaskRun(start, number, 64, Future(), images=images)


def test_what_needs_no_forward_goes_on_before_whose_turn_it_is(dispatcher: Dispatcher) -> None:
    runs = {1: run(1, False, True), 2: run(2, True, True)}
    turn = dispatcher.decide(runs)
    assert turn.reuse == [(1, 1), (2, 0), (2, 1)]
    assert turn.step == []


def test_without_such_images_there_is_a_step(dispatcher: Dispatcher) -> None:
    turn = dispatcher.decide({1: run(1, False)})
    assert turn.reuse == []
    assert [share.number for share in turn.step] == [1]


def test_what_was_cancelled_goes_on_in_no_way(dispatcher: Dispatcher) -> None:
    dispatcher.tell(CancelTask(task_id="task 1", attempt=1))
    turn = dispatcher.decide({1: run(1, True), 2: run(2, False)})
    assert turn.reuse == []
    assert turn.step == [Share(2, 1, 2)]


def test_what_begins_waits_for_nothing(dispatcher: Dispatcher) -> None:
    dispatcher.tell(Encoded(2))
    turn = dispatcher.decide({1: run(1, True)})
    assert (turn.begin, turn.reuse, turn.step) == ([2], [], [])


def test_a_step_is_known_by_the_rows_of_its_forward(dispatcher: Dispatcher, pace: Pace) -> None:
    dispatcher.stepped([run(1, False)], 4.0)
    assert pace.known[64] == {1: 1.0, 2: pytest.approx(2.1)}


def test_a_step_in_fp8_tells_nothing_of_exact_ones(dispatcher: Dispatcher, pace: Pace) -> None:
    dispatcher.stepped([run(1, False, fp8=True)], 1.0)
    assert pace.known[64] == PROFILE[64]
    assert pace.step_s(64, 2, fp8=True) == pytest.approx(1.0)


def test_steps_in_fp8_are_shared_with_none_that_are_not(pace: Pace) -> None:
    dispatcher = Dispatcher(Clock())
    dispatcher.know(pace, Widths({64: {1: 1.0, 2: 1.1, 4: 1.2, 8: 1.3}}, most=8))
    runs = {1: run(1, False), 2: run(2, False, fp8=True), 3: run(3, False)}
    assert [share.number for share in dispatcher.decide(runs).step] == [1, 3]
