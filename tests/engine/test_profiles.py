"""What was found out of a model is there at the next start."""

from pathlib import Path

import pytest

from hidream_server.engine.profiles import Profiles
from hidream_server.ipc.messages import Profile
from hidream_server.store.folder import Folder

PROFILE = Profile(
    step_s={64: {1: 0.5, 2: 0.75}, 256: {1: 2.0}}, beside_s={64: 0.0}, preview_map=[[1.0, 0.5, 0.0]]
)


@pytest.fixture
def files(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "profiles")


def test_a_profile_is_kept_by_model_and_layout(files: Folder):
    Profiles(files, "model.cpu2").keep("tp1", PROFILE)
    assert Profiles(files, "model.cpu2").get("tp1") == PROFILE
    assert Profiles(files, "model.cpu2").get("tp2") is None
    assert Profiles(files, "other.cpu2").get("tp1") is None


def test_what_cannot_be_read_is_found_out_again(files: Folder):
    profiles = Profiles(files, "model")
    profiles.keep("tp1", PROFILE)
    [name] = files.names()
    files.put(name, b'{"type": "something else"}')
    assert profiles.get("tp1") is None


def test_a_profile_that_cannot_be_written_costs_nothing(
    files: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(_key: str, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "put", full)
    Profiles(files, "model").keep("tp1", PROFILE)
    assert "No space left on device" in caplog.text
