"""Short work first, fair shares, deadlines just in time, shared forwards; and nobody starves."""

from collections import Counter
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from hidream_server.scheduling.active_task import ActiveTask, Share
from hidream_server.scheduling.deadlines import promised
from hidream_server.scheduling.policy import AGEING, charge, next_step
from hidream_server.scheduling.shares import FairShares
from tests.scheduling.tasks import ALONE, PACE, PROFILE, SHARED, STRETCH, run, task

SHAPES = st.sampled_from(sorted(PROFILE))
#: The longest forward, seconds.
FORWARD_S = max(step_s for by_rows in PROFILE.values() for step_s in by_rows.values())


def tasks(most_images: int = 1, clients: str = "a", deadlines: bool = False):
    """Draw tasks numbered in the order in which they come."""
    drawn = st.builds(
        lambda arrived_s, steps, shape, fp8, rows, client, deadline_s: task(
            0,
            tuple(steps),
            arrived_s=float(arrived_s),
            shape=shape,
            fp8=fp8,
            image_rows=rows,
            client=client,
            deadline_s=None if deadline_s is None else float(arrived_s + deadline_s),
        ),
        st.integers(0, 400),
        st.lists(st.integers(1, 60), min_size=1, max_size=most_images),
        SHAPES,
        st.booleans(),
        st.sampled_from([1, 2]),
        st.sampled_from(list(clients)),
        st.none() | st.integers(0, 600) if deadlines else st.none(),
    )
    return st.lists(drawn, min_size=1, max_size=10).map(in_order)


def in_order(drawn: list[ActiveTask]) -> list[ActiveTask]:
    ordered = sorted(drawn, key=lambda task: task.arrived_s)
    return [replace(task, number=number) for number, task in enumerate(ordered)]


def step(active: list[ActiveTask], widths=ALONE, now: float = 0.0) -> list[Share]:
    return next_step(active, widths, FairShares(), now)


def leader(active: list[ActiveTask], now: float = 0.0) -> int:
    return step(active, now=now)[0].number


def test_without_tasks_there_is_nothing_to_run():
    assert step([]) == []


# Short work first


def test_a_short_task_passes_a_long_one_that_has_just_begun():
    assert leader([task(1, 50), task(2, 16, arrived_s=1.0)]) == 2


def test_a_long_task_is_not_passed_when_it_has_waited_for_long_enough():
    long, arrived_s = task(1, 50), (50 - 16) / AGEING
    assert leader([long, task(2, 16, arrived_s=arrived_s - 1)]) == 2
    assert leader([long, task(2, 16, arrived_s=arrived_s + 1)]) == 1


def test_equal_tasks_run_one_after_the_other():
    assert run([task(number, 10) for number in range(3)]) == {0: 10.0, 1: 20.0, 2: 30.0}


@given(tasks(most_images=3, clients="abc", deadlines=True), st.integers(0, 500), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_list(active, now, randoms):
    chosen = step(active, SHARED, now)
    randoms.shuffle(active)
    assert step(active, SHARED, now) == chosen


@given(tasks())
def test_a_task_ends_when_what_came_before_it_could_be_passed_is_done(drawn):
    for ends, stretch in ((run(drawn), 1.0), (run(drawn, SHARED), STRETCH)):
        for late in drawn:
            closing = late.arrived_s + late.total_s / AGEING
            ahead_s = sum(other.total_s for other in drawn if other.arrived_s <= closing)
            # The server may have been idle before the task came, never after; a forward is not
            # broken off.
            assert ends[late.number] <= late.arrived_s + stretch * ahead_s + FORWARD_S + 1e-6


@given(tasks())
def test_in_a_burst_the_mean_latency_is_the_least_there_is(drawn):
    burst = [replace(task, arrived_s=0.0) for task in drawn]
    shortest_first = sorted(task.total_s for task in burst)
    least = sum(sum(shortest_first[: n + 1]) for n in range(len(burst)))
    assert abs(sum(run(burst).values()) - least) < 1e-6


# Shared forwards


@given(tasks(most_images=3, clients="ab"))
def test_a_forward_is_of_one_kind_and_within_the_width_unless_it_is_one_guided_image(active):
    by_number = {task.number: task for task in active}
    for widths in (ALONE, SHARED):
        chosen = step(active, widths)
        members = [by_number[share.number] for share in chosen]
        assert len(set(members)) == len(members)
        assert len({(task.shape, task.fp8) for task in members}) == 1
        for share, member in zip(chosen, members, strict=True):
            assert 1 <= share.images <= member.images_left
            assert share.rows == share.images * member.image_rows
            assert member.total_s <= 2 * members[0].total_s
        rows = sum(share.rows for share in chosen)
        is_guided_alone = [(share.images, share.rows) for share in chosen] == [(1, 2)]
        assert rows <= widths.rows(members[0].shape) or is_guided_alone


def test_the_leaders_own_images_come_first_then_tasks_of_its_shape():
    active = [
        task(1, (5, 5)),
        task(2, 12, image_rows=2),
        task(3, 14, shape=256),
        task(4, 13),
        task(5, 13, fp8=True),
    ]
    assert step(active, SHARED) == [Share(1, 2, 2, ""), Share(4, 1, 1, "")]


def test_a_guided_image_that_does_not_fit_is_not_split_and_lets_a_smaller_one_join():
    active = [task(1, (9, 9, 9)), task(2, 20, image_rows=2), task(3, 40)]
    assert [share.number for share in step(active, SHARED)] == [1, 3]


def test_a_task_much_longer_than_the_leader_does_not_join_it():
    assert [share.number for share in step([task(1, 10), task(2, 20)], SHARED)] == [1, 2]
    assert [share.number for share in step([task(1, 10), task(2, 21)], SHARED)] == [1]


def test_images_that_took_their_last_step_are_gone():
    assert task(1, (2, 3, 5)).stepped(2, steps=2).image_steps == (1, 5)


# Fair shares


@given(
    st.lists(
        st.tuples(st.integers(5, 40), SHAPES, st.sampled_from([1, 2])), min_size=2, max_size=5
    ),
    st.sampled_from([ALONE, SHARED]),
)
def test_each_client_gets_its_part_of_the_time(kinds, widths):
    served, shares, now = Counter[str](), FairShares(), 0.0
    clients = {
        f"{number}": task(number, steps, shape=shape, image_rows=rows, client=f"{number}")
        for number, (steps, shape, rows) in enumerate(kinds)
    }
    left = {client: task.steps_left for client, task in clients.items()}
    for _ in range(400):
        # Each client sends its next task as soon as the last one is done.
        active = [replace(clients[c], image_steps=(steps,)) for c, steps in left.items()]
        chosen = next_step(active, widths, shares, now)
        rows = sum(share.rows for share in chosen)
        seconds = PACE.step_s(active[chosen[0].number].shape, rows)
        charge(chosen, shares, seconds)
        now += seconds
        for share in chosen:
            served[share.client] += seconds * share.rows / rows
            left[share.client] = left[share.client] - 1 or clients[share.client].steps_left
        for client, own in clients.items():
            step_s = max(task.step_s for task in active)
            assert served[client] >= now / len(clients) - own.total_s - step_s - FORWARD_S


def test_a_client_of_more_weight_gets_as_much_more_of_the_time():
    heavy = [task(number, 40, client="heavy", weight=3.0) for number in range(3)]
    light = [task(number, 40, client="light") for number in range(3, 6)]
    shares, steps = FairShares(), Counter()
    active = {task.number: task for task in (*heavy, *light)}
    for now in range(100):
        chosen = next_step(active.values(), ALONE, shares, float(now))
        charge(chosen, shares, 1.0)
        for share in chosen:
            steps[share.client] += 1
            active[share.number] = active[share.number].stepped(share.images)
            if not active[share.number].images_left:
                del active[share.number]
    # One is ahead of the other by no more than a task.
    assert abs(steps["heavy"] - 75) <= 40 * 3 / 4


def test_a_client_with_much_to_do_does_not_keep_another_from_its_share():
    many = [task(number, 10, client="many") for number in range(20)]
    ends = run([*many, task(20, 15, client="one")])
    assert ends[20] < 50


def test_where_no_client_is_behind_short_work_comes_first():
    assert run([task(0, 40, client="a"), task(1, 10, client="b")])[1] == 10.0


def test_priority_lets_a_client_run_ahead_by_its_head_start_and_no_more():
    head_start_s, steps = 100.0, 30
    high = [
        task(n, steps, arrived_s=0.0, head_start_s=head_start_s, client="high") for n in range(20)
    ]
    ends = run([*high, task(20, 40, client="normal")])
    assert sum(end < ends[20] - 40 for end in ends.values()) >= head_start_s / steps
    assert ends[20] <= head_start_s + 40 + 2 * (40 + steps + 1)


# Deadlines


def test_a_deadline_leads_just_in_time_and_not_before():
    long, short = task(1, 50, deadline_s=100.0), task(2, 20)
    assert leader([long, short]) == 2
    assert leader([long, short], now=46.0) == 2
    assert leader([long, short], now=47.0) == 1
    assert run([long, short]) == {2: 20.0, 1: 70.0}
    assert run([replace(long, deadline_s=55.0), short])[1] <= 55.0


def test_a_deadline_that_cannot_be_met_changes_nothing():
    assert leader([task(1, 50, deadline_s=40.0), task(2, 20)]) == 2


def test_a_deadline_that_is_missed_by_little_is_not_given_up():
    assert leader([task(1, 50, deadline_s=48.0), task(2, 20)]) == 1


def test_a_later_deadline_does_not_make_an_earlier_one_late_by_ever_so_little():
    first, later = task(1, 50, deadline_s=60.0), task(2, 12, deadline_s=13.0)
    assert promised([later, first], 0.0) == [first]
    assert promised([later, replace(first, deadline_s=62.0)], 0.0)[0] == later


def test_before_a_deadline_a_task_shares_its_forward_with_its_own_images_only():
    active = [task(1, (20, 20), deadline_s=41.0), task(2, 20)]
    assert step(active, SHARED) == [Share(1, 2, 2, "")]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30)), min_size=1, max_size=6), tasks())
def test_deadlines_are_met_when_they_can_be(wanted, others):
    end, promises = 0.0, []
    for number, (steps, spare) in enumerate(wanted):
        end += steps + spare
        promises.append(task(number, steps, deadline_s=end + FORWARD_S))
    others = [replace(task, number=len(promises) + task.number) for task in others]
    for widths in (ALONE, SHARED):
        ends = run([*promises, *others], widths)
        assert all(ends[task.number] <= task.deadline_s for task in promises)


@given(tasks(deadlines=True), st.integers(0, 100))
def test_a_promise_is_not_broken_for_a_later_one(drawn, spare):
    first = drawn[0]
    deadline_s = first.arrived_s + FORWARD_S + first.total_s + spare
    ends = run([replace(first, deadline_s=deadline_s), *drawn[1:]], SHARED)
    assert ends[first.number] <= deadline_s + 1e-6


@given(tasks(deadlines=True))
def test_deadlines_delay_others_by_no_more_than_their_own_work(drawn):
    assume(any(other.deadline_s is None for other in drawn))
    ends = run(drawn)
    for late in (other for other in drawn if other.deadline_s is None):
        closing = late.arrived_s + late.total_s / AGEING
        ahead_s = sum(
            other.total_s
            for other in drawn
            if other.arrived_s <= closing or other.deadline_s is not None
        )
        assert ends[late.number] <= late.arrived_s + ahead_s + FORWARD_S + 1e-6
