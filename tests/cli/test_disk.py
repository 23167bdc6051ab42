"""Whether a folder can be written, before anything is."""

import os
import shutil
from pathlib import Path

import pytest

from hidream_server.cli.disk import check_folder, free_bytes
from hidream_server.errors import FolderUnwritableError


def test_a_folder_that_is_not_there_can_be_made(tmp_path: Path) -> None:
    check_folder(tmp_path / "some" / "where", "--data-dir")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_to_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FolderUnwritableError, match=r"file is a file.*another --log-dir"):
            check_folder(folder, "--log-dir")


def test_a_folder_that_this_user_may_not_write_is_refused(tmp_path: Path, monkeypatch) -> None:
    # Who runs the tests may be root, who may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path)
    with pytest.raises(FolderUnwritableError, match=f"{tmp_path} cannot be written"):
        check_folder(tmp_path / "below", "--data-dir")


def test_the_room_is_that_of_where_it_will_be(tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: {tmp_path: usage}[path])
    assert free_bytes(tmp_path / "not" / "yet") == usage.free
