"""The forecast is what the simulator does step by step, only sooner."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidream_server.scheduling.active_task import ActiveTask
from hidream_server.scheduling.forecast import FOLLOWED, TURNS, Group, forecast
from hidream_server.scheduling.places import next_place
from hidream_server.scheduling.shares import FairShares
from hidream_server.scheduling.simulator import Policy, serve
from tests.scheduling.tasks import ALONE, PACE, PROFILE, SHARED, task

PLACES = 3

kinds = st.tuples(
    st.lists(st.integers(1, 50), min_size=1, max_size=3),
    st.sampled_from(sorted(PROFILE)),
    st.sampled_from([1, 2]),
    st.integers(0, 300),
)


def backlog(drawn: list[tuple], clients: str = "a") -> list[ActiveTask]:
    """Return tasks that came before second 0, no two of them with the same right to lead."""
    return [
        task(
            number,
            tuple(steps),
            shape=shape,
            image_rows=rows,
            arrived_s=-age - number / 97,
            client=clients[number % len(clients)],
        )
        for number, (steps, shape, rows, age) in enumerate(drawn)
    ]


def ahead(tasks: list[ActiveTask], widths=SHARED, places: int = PLACES) -> dict[int, float]:
    return forecast([], tasks, Group(widths, PACE, FairShares(), places), 0.0)


def by_steps(tasks: list[ActiveTask], widths=SHARED) -> dict[int, float]:
    return serve(tasks, Policy("", next_place, PLACES, widths), PACE)


@given(st.lists(kinds, min_size=1, max_size=10), st.sampled_from([ALONE, SHARED]))
def test_it_is_what_happens_step_by_step(drawn, widths):
    tasks = backlog(drawn)
    assert ahead(tasks, widths) == pytest.approx(by_steps(tasks, widths))


def test_it_sees_who_shares_a_forward_overtake_its_leader():
    tasks = [task(0, 30), task(1, (12, 12), image_rows=2)]
    ends = ahead(tasks)
    assert ends == pytest.approx(by_steps(tasks))
    assert ends[1] < ends[0]


@given(st.lists(kinds, min_size=1, max_size=3))
def test_a_deadline_is_seen_coming(drawn):
    tasks = backlog([(steps[:1], *rest) for steps, *rest in drawn])
    last = tasks[-1]
    tasks[-1] = replace(last, deadline_s=1.2 * last.total_s + 0.01)
    assert ahead(tasks, ALONE) == pytest.approx(by_steps(tasks, ALONE))


@given(st.lists(kinds, min_size=1, max_size=10), st.sampled_from([ALONE, SHARED]))
def test_so_it_is_with_several_clients_that_have_not_much_to_do(drawn, widths):
    drawn = [([min(count, 4) for count in steps], *rest) for steps, *rest in drawn]
    tasks = backlog(drawn, clients="abc")
    assert sum(task.steps_left for task in tasks) <= TURNS
    assert ahead(tasks, widths) == pytest.approx(by_steps(tasks, widths))


@pytest.mark.parametrize("widths", [ALONE, SHARED])
def test_with_several_clients_that_have_much_to_do_it_is_near(widths):
    tasks = backlog([([20 + n], 64, 1 + n % 2, 0) for n in range(30)], clients="abc")
    forecasted, served = ahead(tasks, widths), by_steps(tasks, widths)
    last = max(served.values())
    off = [abs(forecasted[number] - end) for number, end in served.items()]
    assert max(forecasted.values()) == pytest.approx(last, rel=0.05)
    assert sum(off) / len(off) <= 0.05 * last


def test_the_shares_are_left_as_they_were():
    shares = FairShares()
    tasks = backlog([([5], 64, 1, 0), ([9], 64, 1, 0)], clients="ab")
    forecast(tasks, [], Group(SHARED, PACE, shares, PLACES), 0.0)
    assert set(shares.start_tags({"a": 0.0, "b": 0.0}).values()) == {0.0}


def test_nothing_to_do_is_done_at_once():
    assert ahead([]) == {}


def test_what_waits_far_behind_is_added_up():
    tasks = [task(number, 10) for number in range(1 + FOLLOWED + 20)]
    ends = ahead(tasks, ALONE, places=1)
    assert [ends[number] for number in range(len(tasks))] == pytest.approx(
        [10.0 * (number + 1) for number in range(len(tasks))]
    )
    shared = ahead(tasks, SHARED, places=4)
    assert max(shared.values()) == pytest.approx(max(ends.values()) / 1.7, rel=0.1)
