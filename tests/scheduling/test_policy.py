"""Shortest remaining work first, and nobody starves."""

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from hidream_server.scheduling.policy import AGEING, ActiveTask, next_task

STEP_S = 1.0


@dataclass(frozen=True)
class Arrival:
    at_s: float
    steps: int


arrivals = st.lists(
    st.builds(Arrival, st.integers(0, 40).map(float), st.integers(1, 60)), min_size=1, max_size=12
)


def simulate(tasks: list[Arrival], choose=next_task) -> list[float]:
    """Return when each task ends on a server that runs one step of a second after the other."""
    left = {number: task.steps for number, task in enumerate(tasks)}
    ends = [0.0] * len(tasks)
    now = 0.0
    while left:
        active = [
            ActiveTask(number, tasks[number].at_s, steps * STEP_S)
            for number, steps in left.items()
            if tasks[number].at_s <= now
        ]
        chosen = choose(active)
        now += STEP_S
        if chosen is not None:
            left[chosen.number] -= 1
            if not left[chosen.number]:
                del left[chosen.number]
                ends[chosen.number] = now
    return ends


def first_come(active: list[ActiveTask]) -> ActiveTask | None:
    return min(active, key=lambda task: (task.arrived_s, task.number), default=None)


def mean_latency(tasks: list[Arrival], choose) -> float:
    ends = simulate(tasks, choose)
    return sum(end - task.at_s for end, task in zip(ends, tasks, strict=True)) / len(tasks)


def test_without_tasks_there_is_nothing_to_run():
    assert next_task([]) is None


def test_a_short_task_passes_a_long_one_that_has_just_begun():
    long, short = ActiveTask(1, 0.0, 50.0), ActiveTask(2, 1.0, 16.0)
    assert next_task([long, short]) == short


def test_a_task_near_its_end_is_not_passed():
    assert next_task([ActiveTask(1, 0.0, 3.0), ActiveTask(2, 40.0, 16.0)]).number == 1


def test_equal_tasks_run_one_after_the_other():
    tasks = [Arrival(0.0, 10)] * 3
    assert simulate(tasks) == [10.0, 20.0, 30.0]


@given(tasks=arrivals, randoms=st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_list(tasks, randoms):
    active = [ActiveTask(n, task.at_s, task.steps) for n, task in enumerate(tasks)]
    chosen = next_task(active)
    randoms.shuffle(active)
    assert next_task(active) == chosen


@given(tasks=arrivals)
def test_a_task_ends_when_what_came_before_it_could_be_passed_is_done(tasks):
    ends = simulate(tasks)
    for task, end in zip(tasks, ends, strict=True):
        closing = task.at_s + task.steps * STEP_S / AGEING
        ahead = sum(other.steps for other in tasks if other.at_s <= closing) * STEP_S
        # The server may have been idle before the task came, never after; a step is not broken off.
        assert end <= task.at_s + ahead + STEP_S


@given(tasks=arrivals)
def test_in_a_burst_the_mean_latency_is_the_least_there_is(tasks):
    burst = [replace(task, at_s=0.0) for task in tasks]
    shortest_first = sorted(task.steps for task in burst)
    least = sum(sum(shortest_first[: n + 1]) for n in range(len(burst))) / len(burst)
    assert mean_latency(burst, next_task) == least <= mean_latency(burst, first_come)


def test_a_short_task_behind_a_long_one_waits_for_one_step_only():
    tasks = [Arrival(0.0, 100), Arrival(3.0, 16)]
    alone = 16
    waited = simulate(tasks)[1] - 3.0
    by_turns = simulate(tasks, first_come)[1] - 3.0
    assert waited <= alone + 1
    assert by_turns > 7 * alone
