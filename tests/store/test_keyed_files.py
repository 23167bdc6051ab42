"""Small files of which the latest counts."""

from pathlib import Path

from hidream_server.store.keyed_files import KeyedFiles


def test_the_latest_file_of_a_key_is_there_after_a_restart(tmp_path: Path):
    folder = KeyedFiles(tmp_path / "new")
    assert folder.get("a") is None
    for data in (b"first", b"second"):
        folder.put("a", data)
    folder.put("b", b"other")
    again = KeyedFiles(tmp_path / "new")
    assert (again.get("a"), again.get("b")) == (b"second", b"other")
    assert again.names() == ["a", "b"]


def test_a_dropped_file_is_gone_and_may_be_dropped_again(tmp_path: Path):
    folder = KeyedFiles(tmp_path)
    folder.put("a", b"x")
    folder.drop("a")
    folder.drop("a")
    assert folder.get("a") is None
    assert folder.names() == []


def test_a_write_that_was_cut_short_is_no_file(tmp_path: Path):
    (tmp_path / ".a.part").write_bytes(b"half")
    folder = KeyedFiles(tmp_path)
    assert folder.get("a") is None
    assert folder.names() == []
