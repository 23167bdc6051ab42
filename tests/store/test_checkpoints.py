"""Checkpoints on the local disk."""

from pathlib import Path

from hidream_server.store.checkpoints import CheckpointFolder


def test_the_latest_checkpoint_of_a_task_is_there_after_a_restart(tmp_path: Path):
    folder = CheckpointFolder(tmp_path / "new")
    assert folder.get("a") is None
    for data in (b"first", b"second"):
        folder.put("a", data)
    folder.put("b", b"other")
    again = CheckpointFolder(tmp_path / "new")
    assert (again.get("a"), again.get("b")) == (b"second", b"other")
    assert again.task_ids() == ["a", "b"]


def test_a_dropped_checkpoint_is_gone_and_may_be_dropped_again(tmp_path: Path):
    folder = CheckpointFolder(tmp_path)
    folder.put("a", b"x")
    folder.drop("a")
    folder.drop("a")
    assert folder.get("a") is None
    assert folder.task_ids() == []


def test_a_write_that_was_cut_short_is_no_checkpoint(tmp_path: Path):
    (tmp_path / ".a.part").write_bytes(b"half")
    folder = CheckpointFolder(tmp_path)
    assert folder.get("a") is None
    assert folder.task_ids() == []
