"""What the policy is worth, counted on tasks that come at random."""

import pytest

from hidream_server.scheduling.pace import Pace
from hidream_server.scheduling.simulator import Outcome, outcome, policies, serve
from hidream_server.scheduling.widths import WIDEST, Widths
from hidream_server.scheduling.workload import MIX, PROFILE, draw
from tests.scheduling.tasks import PACE, SHARED, task

PACE_OF_PROFILE = Pace(PROFILE)


def compare(clients: int = 1, load: float = 0.8, seed: int = 0) -> list[Outcome]:
    """Return what each policy comes to, ours last."""
    tasks = draw(MIX, PACE_OF_PROFILE, load, 400, clients, seed)
    return [
        outcome(tasks, serve(tasks, policy, PACE_OF_PROFILE))
        for policy in policies(Widths(PROFILE, WIDEST))
    ]


@pytest.mark.parametrize(("clients", "seed"), [(1, 0), (1, 1), (4, 0)])
def test_many_more_tasks_take_no_more_than_twice_their_time(clients, seed):
    first_come, *_, ours = compare(clients=clients, seed=seed)
    assert ours.within_twice >= first_come.within_twice + 0.3
    assert ours.mean_s <= 0.7 * first_come.mean_s


def test_when_more_comes_than_can_be_done_shared_forwards_do_more():
    *_, unshared, ours = compare(load=1.2)
    assert ours.mean_s < 0.9 * unshared.mean_s


def test_in_a_burst_of_equal_tasks_sharing_pays_for_all_together():
    tasks = [task(number, 28) for number in range(8)]
    first_come, *_, ours = (
        outcome(tasks, serve(tasks, policy, PACE)).mean_s for policy in policies(SHARED)
    )
    assert ours <= 0.9 * first_come


def test_the_same_seed_is_the_same_simulation():
    assert compare(seed=7) == compare(seed=7) != compare(seed=8)


def test_the_load_is_the_work_that_comes():
    tasks = draw(MIX, PACE_OF_PROFILE, 0.5, 4000, 1, 0)
    work_s = sum(task.total_s for task in tasks)
    assert work_s / tasks[-1].arrived_s == pytest.approx(0.5, rel=0.05)


def test_one_task_after_the_other_has_its_time_by_itself():
    tasks = [task(number, 10, arrived_s=100.0 * number) for number in range(4)]
    for policy in policies(SHARED):
        found = outcome(tasks, serve(tasks, policy, PACE))
        assert (found.mean_s, found.p50_s, found.p99_s, found.within_twice) == (10, 10, 10, 1)
        assert found.tasks_per_minute == pytest.approx(60 * 4 / 310)
