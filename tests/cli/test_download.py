"""Checkpoints are fetched from a hub, once, whole, and into folders that can be served."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hidream_server.cli import download
from hidream_server.cli.deciding import decide
from hidream_server.cli.main import app
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import DownloadError, ModelDirectoryError
from hidream_server.settings import Settings
from tests.cli.hub import FakeHub
from tests.http_server import http_server
from tests.support import linked_demo

WEIGHTS = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def may_ask(monkeypatch, tmp_path) -> None:
    """Let the library ask the hub of the tests, and nothing that whoever runs them has."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HIDREAM_HUB", "HIDREAM_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(tmp_path: Path) -> FakeHub:
    """A hub that has the demo model as the published ones."""
    served = linked_demo(tmp_path / "hub")
    (served / "assets").mkdir()
    (served / "assets" / "sample.json").write_text("{}")
    names = ("Full", "Dev", "Fast")
    return FakeHub(
        {f"HiDream-ai/HiDream-I1-{name}": served for name in names}
        | {"meta-llama/Llama-3.1-8B-Instruct": DEMO_EXTRA_MODEL_PATH}
    )


@pytest.fixture
def address(hub: FakeHub) -> Iterator[str]:
    with http_server(hub.app, Settings()) as port:
        yield f"http://127.0.0.1:{port}"


def hidream_download(address: str, to: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["download", "--to", str(to), "--hub", address, *more])


def test_what_the_server_needs_is_fetched_and_can_be_served(address, tmp_path):
    result = hidream_download(address, tmp_path / "data")
    assert result.exit_code == 0, result.output
    model, llama = (
        tmp_path / "data" / name for name in ("HiDream-I1-Full", "Llama-3.1-8B-Instruct")
    )
    assert f"hidream serve -m {model} -e {llama}" in result.output
    assert (model / WEIGHTS).read_bytes() == (DEMO_MODEL_PATH / WEIGHTS).read_bytes()
    assert not (model / "assets").exists()
    decide(Settings(model_path=model, extra_model_path=llama, device_type="cpu"))


def test_programs_are_told_where_all_is(address, tmp_path):
    result = hidream_download(address, tmp_path, "dev", "fast", "--json")
    assert json.loads(result.stdout) == {
        "models": [str(tmp_path / "HiDream-I1-Dev"), str(tmp_path / "HiDream-I1-Fast")],
        "llama": None,
    }


def test_who_has_no_llama_is_told(address, tmp_path):
    assert "hidream download llama" in hidream_download(address, tmp_path, "full").output


def test_what_is_there_is_not_fetched_again(address, hub, tmp_path):
    hidream_download(address, tmp_path, "full")
    hub.sent.clear()
    missing = tmp_path / "HiDream-I1-Full" / WEIGHTS
    missing.unlink()
    assert hidream_download(address, tmp_path, "full").exit_code == 0
    assert hub.sent == [(WEIGHTS, None)]
    assert missing.read_bytes() == (DEMO_MODEL_PATH / WEIGHTS).read_bytes()


def test_a_connection_that_breaks_is_taken_up_where_it_broke(address, hub, tmp_path, monkeypatch):
    # What came of a piece that is not whole is dropped, and a piece is usually 10 MB.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.breaks_once = WEIGHTS
    assert hidream_download(address, tmp_path, "full").exit_code == 0
    arrived = tmp_path / "HiDream-I1-Full" / WEIGHTS
    assert arrived.read_bytes() == (DEMO_MODEL_PATH / WEIGHTS).read_bytes()
    again = [asked for name, asked in hub.sent if name == WEIGHTS][1:]
    assert again == ["bytes=1000-"]


def test_what_a_killed_process_had_begun_is_taken_away(address, tmp_path):
    folder = tmp_path / "HiDream-I1-Full" / ".cache" / "huggingface" / "download"
    folder.mkdir(parents=True)
    (folder / "1234.incomplete").write_bytes(b"half")
    hidream_download(address, tmp_path, "full")
    assert list(folder.rglob("*.incomplete")) == []


def test_what_arrives_in_pieces_is_refused(hub, tmp_path, monkeypatch):
    """The hub may have a truncated file itself; nobody is to find out when the server starts."""
    served = hub.repositories["HiDream-ai/HiDream-I1-Full"]
    whole = (served / WEIGHTS).read_bytes()
    (served / WEIGHTS).unlink()
    (served / WEIGHTS).write_bytes(whole[:-10])
    with http_server(hub.app, Settings()) as port:
        result = hidream_download(f"http://127.0.0.1:{port}", tmp_path, "full")
    assert result.exit_code == 1
    assert isinstance(result.exception, ModelDirectoryError)
    [finding] = result.exception.findings
    assert finding.path == str(tmp_path / "HiDream-I1-Full" / WEIGHTS)
    assert finding.problem.startswith("is truncated")


def test_files_that_vanish_on_the_way_are_found(address, tmp_path, monkeypatch):
    fetch = download.Hub.fetch

    def forgetful(hub, checkpoint, folder: Path) -> None:
        fetch(hub, checkpoint, folder)
        (folder / "model_index.json").unlink()
        (folder / "vae" / "config.json").write_text("{}")

    monkeypatch.setattr(download.Hub, "fetch", forgetful)
    result = hidream_download(address, tmp_path, "full")
    size = (DEMO_MODEL_PATH / "vae" / "config.json").stat().st_size
    assert isinstance(result.exception, ModelDirectoryError)
    assert [finding.problem for finding in result.exception.findings] == [
        "did not arrive",
        f"is not whole: 2 bytes of {size}",
    ]


def refusal(result: Result) -> str:
    assert result.exit_code == 1
    assert isinstance(result.exception, DownloadError)
    return str(result.exception)


def test_who_may_not_have_it_is_told_what_to_do(address, hub, tmp_path):
    hub.token = "hf_good"
    sentence = refusal(hidream_download(address, tmp_path, "llama"))
    assert f"accept its licence at {address}/meta-llama/Llama-3.1-8B-Instruct" in sentence
    assert hidream_download(address, tmp_path, "llama", "--token", "hf_good").exit_code == 0


def test_a_hub_that_has_it_not_is_said(address, hub, tmp_path):
    hub.repositories.clear()
    sentence = refusal(hidream_download(address, tmp_path, "full"))
    assert sentence.startswith(f"HiDream-ai/HiDream-I1-Full could not be fetched from {address}: ")
    assert "\n" not in sentence


def test_a_hub_that_is_not_reached_is_said_even_if_there_is_a_folder(tmp_path):
    (tmp_path / "HiDream-I1-Full").mkdir()
    (tmp_path / "HiDream-I1-Full" / "model_index.json").touch()
    sentence = refusal(hidream_download("http://127.0.0.1:9", tmp_path, "full"))
    assert "http://127.0.0.1:9" in sentence
    assert "\n" not in sentence


def test_what_is_no_address_is_said(tmp_path):
    assert "http://[::1" in refusal(hidream_download("http://[::1", tmp_path, "full"))


def test_llama_alone_is_said_to_be_there(address, tmp_path):
    assert "hidream download full" in hidream_download(address, tmp_path, "llama").output


def test_who_is_offline_by_choice_is_reminded(address, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(hidream_download(address, tmp_path, "full"))


def test_nothing_is_fetched_that_there_is_no_room_for(address, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10**6))
    assert "choose another folder with --to" in refusal(hidream_download(address, tmp_path, "full"))
    assert hub.sent == []


def test_what_is_no_checkpoint_is_wrong_usage(tmp_path):
    assert hidream_download("http://127.0.0.1:9", tmp_path, "enormous").exit_code == 2
