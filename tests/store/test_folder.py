"""What a folder does beside the contract: what is on the disk when, and what may lie about."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hidream_server.store.folder import Folder

NAME = "a.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var" / "pictures"


@pytest.fixture
def pictures(folder: Path) -> Folder:
    return Folder(folder, durable=True)


def test_what_was_put_is_a_file_that_can_be_sent_from_where_it_lies(pictures, folder):
    pictures.put(NAME, b"picture")
    assert pictures.open(NAME).path == folder / NAME
    assert os.listdir(folder) == [NAME]


def test_a_picture_has_its_name_only_when_its_bytes_are_on_the_disk(pictures, folder, monkeypatch):
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


def test_a_put_that_fails_leaves_no_file(pictures, folder, monkeypatch):
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        pictures.put(NAME, b"12345")
    assert os.listdir(folder) == []


def test_what_a_process_had_begun_that_was_killed_is_seen_by_nobody_and_swept_when_it_is_old(
    pictures, folder
):
    pictures.put(NAME, b"old")
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from hidream_server.store.folder import Folder;"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL);"
        f"Folder(Path(sys.argv[1]), durable=True).put({NAME!r}, b'new picture')"
    )
    dead = subprocess.run([sys.executable, "-c", program, folder], check=False)
    assert dead.returncode == -signal.SIGKILL
    [unfinished] = [path for path in folder.iterdir() if path.name != NAME]
    assert pictures.get(NAME) == b"old"
    assert pictures.names() == [NAME]
    # It may be in the middle of being written, by a process on another machine.
    pictures.drop_unfinished()
    assert unfinished.exists()
    os.utime(unfinished, (time.time() - 3601,) * 2)
    pictures.drop_unfinished()
    assert os.listdir(folder) == [NAME]


def test_a_link_is_not_followed_wherever_it_leads(pictures, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / NAME).symlink_to(secret)
    assert pictures.open(NAME) is None
    assert pictures.get(NAME) is None
    pictures.put("b.png", b"picture")
    (folder / NAME).unlink()
    (folder / NAME).symlink_to(folder / "b.png")
    assert pictures.open(NAME) is None


def test_a_folder_is_nothing_that_was_put(pictures, folder):
    (folder / NAME).mkdir()
    assert pictures.open(NAME) is None


def test_what_is_dropped_while_it_is_opened_is_none(pictures, monkeypatch):
    pictures.put(NAME, b"picture")
    really_read = Path.read_bytes

    def read(path: Path) -> bytes:
        pictures.drop(NAME)
        return really_read(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert pictures.get(NAME) is None
