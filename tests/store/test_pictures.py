"""The picture folder: whole files under names that cannot be mistaken or led astray."""

import os
import stat
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidream_server.store.pictures import PictureFolder, picture_name, task_of

TASK = "0d9f7c6e-1b2a-4c3d-8e4f-5a6b7c8d9e0f"
NAME = picture_name(TASK, 2, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "pictures"


@pytest.fixture
def pictures(folder: Path) -> PictureFolder:
    return PictureFolder(folder)


@given(task=st.uuids(), attempt=st.integers(0, 10**6), image=st.integers(0, 100))
def test_a_name_tells_the_task_and_differs_for_every_attempt_and_image(
    task: uuid.UUID, attempt: int, image: int
):
    name = picture_name(str(task), attempt, image)
    assert task_of(name) == str(task)
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
def test_what_is_no_picture_name_has_no_task_and_no_file(pictures, name):
    assert task_of(name) is None
    assert pictures.path(name) is None


@pytest.mark.parametrize("name", [f".{NAME}.part", f"{TASK}_0_0.jpg", "notes.txt", "../tasks.db"])
def test_a_file_without_a_pictures_name_is_not_given_out_though_it_is_there(pictures, folder, name):
    (folder / name).write_bytes(b"not for everybody")
    assert pictures.path(name) is None


def test_a_picture_that_was_put_is_found_with_its_bytes(pictures, folder):
    pictures.put(NAME, b"\x89PNG")
    path = pictures.path(NAME)
    assert path == folder / NAME
    assert path.read_bytes() == b"\x89PNG"
    assert os.listdir(folder) == [NAME]


def test_putting_again_replaces_the_whole_picture(pictures):
    pictures.put(NAME, b"long old picture")
    pictures.put(NAME, b"new")
    assert pictures.path(NAME).read_bytes() == b"new"


def test_a_picture_that_is_not_there_is_none(pictures):
    assert pictures.path(NAME) is None


def test_the_picture_has_its_name_only_when_its_bytes_are_on_the_disk(
    pictures, folder, monkeypatch
):
    seen = []
    really_sync = os.fsync

    def sync(file: int) -> None:
        if stat.S_ISREG(os.fstat(file).st_mode):
            seen.append((os.fstat(file).st_size, (folder / NAME).exists()))
        really_sync(file)

    monkeypatch.setattr(os, "fsync", sync)
    pictures.put(NAME, b"12345")
    assert seen == [(5, False)]


def test_the_name_too_is_on_the_disk_when_put_returns(pictures, folder, monkeypatch):
    synced = []
    really_sync = os.fsync

    def sync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            synced.append((folder / NAME).exists())
        really_sync(file)

    monkeypatch.setattr(os, "fsync", sync)
    pictures.put(NAME, b"12345")
    assert synced == [True]


def test_a_picture_that_could_not_be_written_is_not_there_and_leaves_nothing(
    pictures, folder, monkeypatch
):
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        pictures.put(NAME, b"12345")
    assert pictures.path(NAME) is None
    assert os.listdir(folder) == []


def test_a_half_written_picture_keeps_the_old_one(pictures, monkeypatch):
    pictures.put(NAME, b"old")

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        pictures.put(NAME, b"new picture")
    assert pictures.path(NAME).read_bytes() == b"old"


def test_a_link_is_no_picture_wherever_it_leads(pictures, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / NAME).symlink_to(secret)
    assert pictures.path(NAME) is None
    inside = picture_name(TASK, 2, 1)
    pictures.put(inside, b"picture")
    (folder / NAME).unlink()
    (folder / NAME).symlink_to(folder / inside)
    assert pictures.path(NAME) is None


def test_a_folder_with_a_pictures_name_is_no_picture(pictures, folder):
    (folder / NAME).mkdir()
    assert pictures.path(NAME) is None
