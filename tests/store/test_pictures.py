"""Names of pictures, previews and checkpoints, which cannot be mistaken."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidream_server.store.pictures import (
    checkpoint_key,
    claim_of_checkpoint,
    claim_of_picture,
    claim_of_preview,
    picture_name,
    preview_key,
)

TASK = "0d9f7c6e-1b2a-4c3d-8e4f-5a6b7c8d9e0f"


@given(task=st.uuids(), attempt=st.integers(0, 10**6), image=st.integers(0, 100))
def test_a_name_tells_the_task_and_differs_for_every_attempt_and_image(
    task: uuid.UUID, attempt: int, image: int
):
    name = picture_name(str(task), attempt, image)
    assert claim_of_picture(name) == (str(task), attempt)
    others = {picture_name(str(task), attempt + 1, image), picture_name(str(task), attempt, 101)}
    assert name not in others


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "picture.png",
        TASK,
        f"{TASK}_0.png",
        f"{TASK}_0_0.jpg",
        f"{TASK}_0_0.png.part",
        f".{TASK}_0_0.png.part",
        f"{TASK}_0_0.png\n",
        f"\n{TASK}_0_0.png",
        f"{TASK}_-1_0.png",
        f"../{TASK}_0_0.png",
        f"/{TASK}_0_0.png",
        f"{TASK}_0_0.png/../x.png",
        f"{TASK.upper()}_0_0.png",
        f"{TASK}_0_0.png\x00",
    ],
)
def test_what_is_no_picture_name_has_no_task(name):
    assert claim_of_picture(name) is None


def test_the_names_of_previews_and_checkpoints_tell_their_task_and_attempt():
    assert claim_of_preview(preview_key(TASK, 12, 3)) == (TASK, 12)
    assert claim_of_checkpoint(checkpoint_key(TASK, 12)) == (TASK, 12)


@pytest.mark.parametrize("name", ["", "notes.txt", TASK, f".{TASK}_1", f"{TASK}_1/0", "_1", "_1_0"])
def test_what_is_neither_has_no_task(name):
    assert claim_of_preview(name) is None
    assert claim_of_checkpoint(name) is None
