"""Whole or not at all; what a picture needs beside that is tried with the pictures."""

import os
import time
from pathlib import Path

import pytest

from hidream_server.store.whole_files import drop_unfinished, write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_takes_the_place_of_what_was_there(tmp_path: Path, durable: bool):
    for data in (b"first", b"second"):
        write_whole(tmp_path / "a", data, durable)
    assert (tmp_path / "a").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("durable", [False, True])
def test_what_cannot_be_put_in_place_leaves_nothing_and_takes_nothing(tmp_path: Path, durable):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "a", b"x", durable)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_was_only_begun_is_dropped_when_it_is_old_and_nothing_else(tmp_path: Path):
    for name in (".a.part", "a", "a.part", ".hidden"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - 3601,) * 2)
    (tmp_path / ".b.part").touch()
    drop_unfinished(tmp_path)
    kept = [".b.part", ".hidden", "a", "a.part"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
