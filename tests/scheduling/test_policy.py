"""First come, first served."""

from hypothesis import given
from hypothesis import strategies as st

from hidream_server.scheduling.policy import ActiveImage, next_image

images = st.builds(ActiveImage, st.integers(1, 20), st.integers(0, 7))


def test_without_active_images_there_is_nothing_to_run():
    assert next_image([]) is None


def test_the_oldest_task_runs_first_and_its_images_in_order():
    active = [ActiveImage(2, 0), ActiveImage(1, 2), ActiveImage(1, 1), ActiveImage(3, 0)]
    assert next_image(active) == ActiveImage(1, 1)


@given(active=st.lists(images, min_size=1, max_size=30), seed=st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_list(active, seed):
    chosen = next_image(active)
    seed.shuffle(active)
    assert next_image(active) == chosen
    assert chosen in active


@given(active=st.sets(images, min_size=1, max_size=30))
def test_every_image_gets_its_turn_and_no_task_is_overtaken(active):
    order = []
    while active:
        chosen = next_image(list(active))
        order.append((chosen.task_number, chosen.image_index))
        active.remove(chosen)
    assert order == sorted(order)
