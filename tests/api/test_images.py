"""Pictures come from the one folder, and only once they are a task's result."""

import io
from urllib.parse import quote

import pytest
from PIL import Image

from hidream_server.store.pictures import preview_key
from tests.api.support import error_of, problem_of, raw_get


def test_a_download_is_the_picture_as_a_file_to_keep(client, completed):
    task = completed(num_images_per_prompt=2)
    for index in range(2):
        response = client.get(f"/download/{task.id}?image_index={index}")
        assert response.status_code == 200
        assert response.headers["content-type"] == "image/png"
        name = f"{task.id}_image_{index}.png"
        assert f'filename="{name}"' in response.headers["content-disposition"]
        assert response.content == b"\x89PNG picture %d" % index


def test_a_download_is_the_first_picture_unless_another_is_asked_for(client, completed):
    assert client.get(f"/download/{completed().id}").content == b"\x89PNG picture 0"


def test_an_image_is_shown_not_kept(client, completed):
    [name] = completed().pictures
    response = client.get(f"/images/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert "content-disposition" not in response.headers
    assert response.content == b"\x89PNG picture 0"


# Other formats


@pytest.fixture
def painted(services, completed):
    """A task that has a real picture."""
    task = completed()
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, "PNG")
    services.results.pictures.put(task.pictures[0], file.getvalue())
    return task


def opened(response) -> Image.Image:
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content))


@pytest.mark.parametrize(
    ("ending", "media_type"),
    [("jpeg", "image/jpeg"), ("jpg", "image/jpeg"), ("webp", "image/webp")],
)
def test_a_picture_is_had_in_another_format_by_the_end_of_its_name(
    client, painted, ending, media_type
):
    stem = painted.pictures[0].removesuffix(".png")
    response = client.get(f"/images/{stem}.{ending}?compression=80")
    assert response.headers["content-type"] == media_type
    with opened(response) as picture:
        assert (Image.MIME[picture.format], picture.size) == (media_type, (256, 256))
    assert "content-disposition" not in response.headers
    assert len(client.get(f"/images/{stem}.{ending}").content) > len(response.content)


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_a_download_in_another_format_is_a_file_of_that_name(client, painted, form):
    answer = client.get(f"/download/{painted.id}?output_format={form}&output_compression=80")
    assert answer.headers["content-type"] == f"image/{form}"
    name = f"{painted.id}_image_0.{form}"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    with opened(answer) as picture:
        assert picture.format == form.upper()


def test_clients_may_keep_pictures_in_any_format(client, painted):
    [name] = painted.pictures
    paths = [f"/images/{name}", f"/images/{name[:-4]}.webp", f"/download/{painted.id}"]
    for path in paths:
        answer = client.get(path)
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize("value", ["-1", "101", "best", "1.5"])
def test_a_compression_out_of_range_is_refused(client, painted, value):
    webp = painted.pictures[0].replace(".png", ".webp")
    for path, field in (
        (f"/images/{webp}?compression=", "compression"),
        (f"/download/{painted.id}?output_format=webp&output_compression=", "output_compression"),
    ):
        problem = problem_of(client.get(path + value))
        assert (problem["field"], problem["value"]) == (field, value)


def test_a_png_takes_no_compression(client, painted):
    for path, field in (
        (f"/images/{painted.pictures[0]}?compression=80", "compression"),
        (f"/download/{painted.id}?output_compression=80", "output_compression"),
    ):
        problem = problem_of(client.get(path))
        assert problem == {"field": field, "value": 80, "allowed": "none with png"}


def test_a_format_that_there_is_not_is_refused(client, painted):
    problem = problem_of(client.get(f"/download/{painted.id}?output_format=gif"))
    assert (problem["field"], problem["value"]) == ("output_format", "gif")
    for format_name in ("png", "jpeg", "webp"):
        assert format_name in problem["allowed"]


@pytest.mark.parametrize("ending", ["gif", "PNG", "webp.png", ""])
def test_a_name_with_another_end_is_no_picture(client, painted, ending):
    name = painted.pictures[0].removesuffix("png") + ending
    assert error_of(client.get(f"/images/{name}"), 404)["code"] == "picture_not_found"


def test_a_task_that_is_queued_or_runs_has_no_picture_yet(client, queue, running):
    task = running()
    error = error_of(client.get(f"/download/{task.id}"), 409)
    assert error["code"] == "task_not_finished"
    assert "processing" in error["message"]
    queue.hand_back((task.id, task.attempt), "tested")
    assert "queued" in error_of(client.get(f"/download/{task.id}"), 409)["message"]


def test_a_task_that_failed_has_no_picture(client, queue, running):
    task = running()
    queue.fail((task.id, task.attempt), "out of memory")
    assert "failed" in error_of(client.get(f"/download/{task.id}"), 409)["message"]


def test_a_task_that_was_cancelled_has_no_picture(client, queue, running):
    task = running()
    queue.cancel(task.id)
    error = error_of(client.get(f"/download/{task.id}"), 409)
    assert error["code"] == "task_cancelled"


def test_the_download_of_an_unknown_task_is_404(client):
    assert error_of(client.get("/download/nobody"), 404)["code"] == "task_not_found"


@pytest.mark.parametrize("index", [-1, 2, 10**30])
def test_a_picture_that_the_task_does_not_have_is_404(client, completed, index):
    task = completed(num_images_per_prompt=2)
    error = error_of(client.get(f"/download/{task.id}?image_index={index}"), 404)
    assert error["code"] == "picture_not_found"
    assert "2 picture(s)" in error["message"]


def test_an_index_that_is_no_number_is_refused(client, completed):
    error = error_of(client.get(f"/download/{completed().id}?image_index=first"), 422)
    assert [problem["field"] for problem in error["problems"]] == ["image_index"]


def test_a_picture_whose_file_is_gone_is_404(client, services, completed):
    task = completed()
    services.results.pictures.drop(task.pictures[0])
    for url in (f"/download/{task.id}", f"/images/{task.pictures[0]}"):
        error = error_of(client.get(url), 404)
        assert error["code"] == "picture_not_found"
        assert "gone" in error["message"]


def test_a_picture_that_is_not_a_result_is_404_though_its_file_is_there(
    client, services, queue, running, completed
):
    unfinished = running()
    early = f"{unfinished.id}_1_0.png"
    services.results.pictures.put(early, b"of a task that runs")
    queue.fail((unfinished.id, 1), "out of memory")
    task = completed()
    stale = f"{task.id}_0_0.png"
    services.results.pictures.put(stale, b"of an attempt that was fenced off")
    for name in (early, stale):
        assert error_of(client.get(f"/images/{name}"), 404)["code"] == "picture_not_found"


def test_a_link_planted_in_the_folder_is_not_followed(client, services, tmp_path, completed):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    task = completed()
    path = services.results.pictures.open(task.pictures[0]).path
    path.unlink()
    path.symlink_to(secret)
    for url in (f"/download/{task.id}", f"/images/{task.pictures[0]}"):
        response = client.get(url)
        assert error_of(response, 404)["code"] == "picture_not_found"
        assert "secret" not in response.text


SECRET = "../tasks.db"
WAYS_OUT = {
    "plain": SECRET,
    "encoded slash": quote(SECRET, safe=""),
    "encoded dots": "%2e%2e/tasks.db",
    "all encoded": "%2e%2e%2ftasks.db",
    "encoded twice": "%252e%252e%252ftasks.db",
    "backslash": "..%5ctasks.db",
    "from the root": "%2fetc%2fpasswd",
    "double slash": "/etc/passwd",
    "null byte": "tasks.db%00.png",
    "dots": "..",
    "dot": ".",
    "nothing": "",
    "far": "../" * 20 + "etc/passwd",
    "far encoded": "%2e%2e%2f" * 20 + "etc%2fpasswd",
}


@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT)
@pytest.mark.parametrize("route", ["/images/", "/download/"])
def test_no_name_leads_out_of_the_folder(app, completed, tmp_path, route, way):
    completed()
    assert (tmp_path / "tasks.db").is_file()
    status, body = raw_get(app, route + way)
    assert status == 404
    assert body.startswith(b'{"error":')


def test_a_picture_is_reached_by_its_exact_path_in_these_tests_too(app, completed):
    [name] = completed().pictures
    assert raw_get(app, f"/images/{name}") == (200, b"\x89PNG picture 0")


@pytest.mark.parametrize("prefix", ["../pictures/", "%2e%2e%2fpictures%2f", "./", "%2e%2f"])
def test_a_detour_to_a_real_picture_is_404(app, completed, prefix):
    [name] = completed().pictures
    assert raw_get(app, f"/images/{prefix}{name}")[0] == 404


# Previews


def test_a_preview_is_there_while_a_rank_has_shown_one(client, services, running):
    task = running(num_previews=2, num_images_per_prompt=2)
    services.results.previews.put(preview_key(task.id, task.attempt, 1), b"\x89PNG unfinished")
    response = client.get(f"/preview/{task.id}?image_index=1")
    assert (response.status_code, response.content) == (200, b"\x89PNG unfinished")
    assert response.headers["content-type"] == "image/png"
    assert error_of(client.get(f"/preview/{task.id}"), 404)["code"] == "preview_not_found"


def test_the_preview_of_an_unknown_task_is_404(client):
    assert error_of(client.get("/preview/nobody"), 404)["code"] == "task_not_found"
