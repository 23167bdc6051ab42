"""Pictures are served alike from wherever they are kept, and what is said when that is away."""

import io
from pathlib import Path

import pytest
from PIL import Image

from hidream_server.errors import ResultsUnavailableError
from hidream_server.store.database import Database
from hidream_server.store.folder import Folder
from hidream_server.store.pictures import preview_key
from hidream_server.store.results import Results, in_folder, open_results
from tests.api.support import error_of
from tests.s3 import S3


@pytest.fixture(params=["folder", "bucket"])
def results(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> Results:
    if request.param == "folder":
        return in_folder(tmp_path)
    s3: S3 = request.getfixturevalue("s3")
    return open_results(s3.new_bucket() + "/a/prefix", tmp_path, database)


@pytest.fixture
def png() -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def task(services, completed, png: bytes):
    """A completed task with a real picture."""
    task = completed()
    services.results.pictures.put(task.pictures[0], png)
    return task


def ways(task) -> list[str]:
    return [f"/download/{task.id}", f"/images/{task.pictures[0]}"]


def test_a_picture_is_sent_to_the_byte_and_may_be_kept(client, task, png):
    for way in ways(task):
        answer = client.get(way)
        assert (answer.status_code, answer.content) == (200, png)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-length"] == str(len(png))
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["etag"].strip('"')
        assert answer.headers["last-modified"].endswith(" GMT")
        assert client.get(way).headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_a_picture_is_had_in_other_formats(client, task, form):
    stem = task.pictures[0].removesuffix(".png")
    for way in (f"/images/{stem}.{form}", f"/download/{task.id}?output_format={form}"):
        with Image.open(io.BytesIO(client.get(way).content)) as picture:
            assert (picture.format, picture.size) == (form.upper(), (256, 256))


def test_a_range_is_parts_of_a_file_and_all_of_what_was_fetched(client, results, task, png):
    sent = {"Range": "bytes=8-15"}
    for way in ways(task):
        answer = client.get(way, headers=sent)
        if isinstance(results.pictures, Folder):
            assert (answer.status_code, answer.content) == (206, png[8:16])
            assert answer.headers["content-range"] == f"bytes 8-15/{len(png)}"
            changed = client.get(way, headers=sent | {"If-Range": '"another"'})
            assert (changed.status_code, changed.content) == (200, png)
        else:
            assert (answer.status_code, answer.content) == (200, png)


def test_a_picture_that_is_gone_is_404(client, results, task):
    results.pictures.drop(task.pictures[0])
    for way in (*ways(task), ways(task)[1].replace(".png", ".webp")):
        assert error_of(client.get(way), 404)["code"] == "picture_not_found"


def test_a_deleted_task_leaves_nothing(client, results, task):
    assert client.delete(f"/tasks/{task.id}").status_code == 204
    assert list(results.pictures.names()) == []
    for way in ways(task):
        assert client.get(way).status_code == 404


def test_a_preview_is_had(client, results, running):
    task = running(num_previews=1)
    results.previews.put(preview_key(task.id, task.attempt, 0), b"preview")
    assert client.get(f"/preview/{task.id}").content == b"preview"


@pytest.fixture
def away(s3: S3, services, task, running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps the results does not answer."""

    def fail(*_: object) -> None:
        raise ResultsUnavailableError

    s3.stop()
    for verb in ("open", "get", "exists", "drop"):
        monkeypatch.setattr(Folder, verb, fail)


@pytest.mark.usefixtures("away")
def test_while_the_store_is_away_pictures_are_asked_for_later_and_all_else_goes_on(client, task):
    for way in (*ways(task), ways(task)[1].replace(".png", ".jpeg"), f"/preview/{task.id}"):
        answer = client.get(way)
        error = error_of(answer, 503)
        assert error["code"] == "results_unavailable"
        assert answer.headers["retry-after"] == "2"
    assert client.get(f"/status/{task.id}").json()["status"] == "completed"
    assert client.post("/submit", json={"prompt": "a"}).status_code == 200
    assert client.get("/health").status_code == 200


def test_a_task_is_deleted_whose_picture_cannot_be(client, task, monkeypatch):
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Folder, "drop", read_only)
    assert client.delete(f"/tasks/{task.id}").status_code == 204
    assert client.get(f"/status/{task.id}").status_code == 404


@pytest.mark.usefixtures("away")
def test_a_task_is_deleted_while_the_store_is_away(client, task):
    assert client.delete(f"/tasks/{task.id}").status_code == 204
    assert client.get(f"/status/{task.id}").status_code == 404
