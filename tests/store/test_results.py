"""Where results are kept: the right place, that can be written, and is not another's."""

import subprocess
import sys
from pathlib import Path

import pytest

from hidream_server.errors import ConfigurationError
from hidream_server.settings import load_settings
from hidream_server.store.blobs import Blobs
from hidream_server.store.bucket import Bucket
from hidream_server.store.database import Database
from hidream_server.store.folder import Folder
from hidream_server.store.results import Results, open_results, require_s3
from tests.s3 import S3
from tests.support import new_database


@pytest.fixture
def database(tmp_path: Path):
    database = new_database(tmp_path / "tasks.db")
    yield database
    database.dispose()


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "shared")
    s3: S3 = request.getfixturevalue("s3")
    return s3.new_bucket() + "/a/prefix/"


def test_without_a_place_all_is_in_the_data_folder(tmp_path: Path, database: Database):
    results = open_results(None, tmp_path / "data", database)
    for blobs in (results.pictures, results.checkpoints, results.previews):
        blobs.put("a", b"x")
    found = {str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("a")}
    assert found == {"pictures/a", "checkpoints/a", "previews/a"}


def test_servers_on_one_database_share_a_place(place: str, tmp_path: Path, database: Database):
    one, other = (open_results(place, tmp_path / name, database) for name in "ab")
    one.pictures.put("a", b"picture")
    one.checkpoints.put("a", b"checkpoint")
    assert other.pictures.get("a") == b"picture"
    assert other.checkpoints.get("a") == b"checkpoint"
    assert list(other.previews.names()) == []


def test_a_place_of_another_database_is_refused(place: str, tmp_path: Path, database: Database):
    open_results(place, tmp_path, database).pictures.put("a", b"picture")
    stranger = new_database(tmp_path / "others.db")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="belongs to another task database"):
            open_results(place, tmp_path, stranger)
    stranger.dispose()
    assert open_results(place, tmp_path, database).pictures.get("a") == b"picture"


def test_of_two_databases_that_come_at_once_one_is_refused(
    place: str, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
):
    store = Bucket if place.startswith("s3://") else Folder
    stranger, really_get = new_database(tmp_path / "others.db"), store.get
    others: list[Results] = []

    def get(blobs: Blobs, name: str) -> bytes | None:
        found = really_get(blobs, name)
        if not others:
            monkeypatch.setattr(store, "get", really_get)
            others.append(open_results(place, tmp_path, stranger))
        return found

    monkeypatch.setattr(store, "get", get)
    with pytest.raises(ConfigurationError, match="belongs to another task database"):
        open_results(place, tmp_path, database)
    assert len(others) == 1
    stranger.dispose()


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(
    tmp_path: Path, database: Database
):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"--results .*file cannot be written: Not a dir"):
        open_results(str(tmp_path / "file"), tmp_path, database)


def test_a_bucket_that_cannot_be_written_is_said_in_one_sentence(
    s3: S3, tmp_path: Path, database: Database
):
    with pytest.raises(ConfigurationError, match=r"s3://nobodys cannot be written: .*NoSuchBucket"):
        open_results("s3://nobodys", tmp_path, database)
    s3.stop()
    with pytest.raises(
        ConfigurationError, match=r"cannot be written: .*error sending request"
    ) as at:
        open_results("s3://nobodys", tmp_path, database)
    assert "\n" not in str(at.value)


@pytest.mark.parametrize(
    "value",
    [
        "nonsense",
        "host:9000",
        "s3://host",
        "http://",
        "http://me:secret@host",
        "https://secret@host:9000/a",
        "me:secret@host",
        "http://host/a@secret",
        "http://host secret",
    ],
)
def test_an_endpoint_that_is_none_is_said_in_one_sentence_without_its_secrets(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: Database
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    with pytest.raises(
        ConfigurationError, match="AWS_ENDPOINT_URL is no http or https address"
    ) as error:
        open_results("s3://bucket", tmp_path, database)
    assert value not in str(error.value)
    assert "secret" not in str(error.value)


def test_without_the_extra_a_bucket_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'hidream-server\[s3\]'"):
        require_s3("s3://bucket")


@pytest.mark.parametrize(
    "place",
    ["s3://", "s3://key:secret@bucket/a", "S3://bucket", "http://host/bucket", "s3://bucket/a?b=c"],
)
def test_what_is_no_place_is_refused_without_saying_its_secrets(place: str):
    with pytest.raises(ConfigurationError, match="a folder, or s3://bucket/prefix") as error:
        load_settings({"results": place}, environ={})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("place", ["s3://bucket", "s3://my.bucket-1/a/b_c", "/mnt/shared", "var/x"])
def test_a_place_is_taken_as_it_is(place: str):
    assert load_settings({}, environ={"HIDREAM_RESULTS": place}).results == place


def test_a_server_with_a_folder_does_not_import_the_client_for_s3():
    program = (
        "import sys, hidream_server.cli.server;"
        "print(*[m for m in sys.modules if 'obstore' in m or m.endswith('store.bucket')])"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said.strip() == ""
