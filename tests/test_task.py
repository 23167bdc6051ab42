"""Tasks as numbers: states, seeds, cost, progress, times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidream_server.task import TRANSITIONS, Task, TaskState, sources
from tests.support import params

FINAL = {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}


def task(**fields) -> Task:
    """Return a running task with some fields changed."""
    return Task(
        **{"id": "1", "state": TaskState.PROCESSING, "params": params(), "created_at": 1.0} | fields
    )


def test_the_table_covers_every_state():
    assert set(TRANSITIONS) == set(TaskState)


def test_exactly_the_final_states_lead_nowhere():
    assert {state for state, targets in TRANSITIONS.items() if not targets} == FINAL


@pytest.mark.parametrize("target", TaskState)
def test_sources_is_the_table_read_backwards(target):
    for state in TaskState:
        assert (state in sources(target)) == (target in TRANSITIONS[state])


def test_only_a_running_task_can_be_completed_or_handed_back():
    for target in (TaskState.COMPLETED, TaskState.QUEUED):
        assert sources(target) == [TaskState.PROCESSING]


@pytest.mark.parametrize(("scale", "guided"), [(0.0, False), (1.0, False), (1.01, True)])
def test_an_image_is_guided_above_a_scale_of_one(scale, guided):
    assert params(guidance_scale=scale).guided is guided


def test_image_j_has_seed_plus_j():
    assert params(seed=40, num_images=3).seeds == [40, 41, 42]


def test_cost_is_rows_times_steps_times_megapixels():
    plain = params(guidance_scale=0.0, num_inference_steps=10, width=1000, height=2000)
    assert plain.cost == pytest.approx(20.0)
    assert params(
        guidance_scale=5.0, num_inference_steps=10, width=1000, height=2000, num_images=3
    ).cost == pytest.approx(6 * plain.cost)


@given(steps=st.integers(1, 200), images=st.integers(1, 8), data=st.data())
def test_progress_is_the_share_of_steps_and_never_100_before_the_pictures_are_there(
    steps, images, data
):
    asked = params(num_inference_steps=steps, num_images=images)
    done = data.draw(st.integers(0, asked.total_steps))
    running = task(params=asked, steps_done=done)
    assert running.progress == min(99, 100 * done // (steps * images))
    completed = task(params=asked, steps_done=done, state=TaskState.COMPLETED)
    assert completed.progress == 100


def test_a_failed_task_keeps_the_progress_it_had():
    assert task(state=TaskState.FAILED, steps_done=2).progress == 50


def test_the_processing_time_is_known_once_the_task_has_ended():
    assert task(started_at=10.0).processing_time is None
    assert task(completed_at=10.0).processing_time is None
    assert task(started_at=10.0, completed_at=12.5).processing_time == 2.5
