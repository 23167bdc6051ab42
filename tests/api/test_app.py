"""The app as a whole: its routes, and documentation that needs no other host."""

import re
from urllib.parse import urlsplit

import pytest

ROUTES = {
    *(("get", "/"), ("get", "/livez"), ("get", "/readyz"), ("get", "/health")),
    *(("get", "/limits"), ("get", "/groups")),
    *(("post", "/submit"), ("post", "/batch_submit"), ("get", "/status/{task_id}")),
    *(("get", "/download/{task_id}"), ("get", "/images/{name}"), ("get", "/preview/{task_id}")),
    ("post", "/tasks/{task_id}/cancel"),
    ("get", "/metrics"),
    *(("get", "/tasks"), ("get", "/tasks/{task_id}"), ("delete", "/tasks/{task_id}")),
    *(("get", "/v1/models"), ("get", "/v1/models/{model}")),
    *(("post", f"/v1/images/{verb}") for verb in ("generations", "edits", "variations")),
    *(("get", "/v1/files"), ("post", "/v1/files"), ("get", "/v1/files/{file_id}")),
    *(("delete", "/v1/files/{file_id}"), ("get", "/v1/files/{file_id}/content")),
    *(("get", "/v1/batches"), ("post", "/v1/batches"), ("get", "/v1/batches/{batch_id}")),
    ("post", "/v1/batches/{batch_id}/cancel"),
    *(("post", "/tasks/{task_id}/retry"), ("get", "/tasks/{task_id}/events"), ("get", "/events")),
}


@pytest.fixture
def openapi(client):
    return client.get("/openapi.json").json()


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_is_served_by_the_app_alone(client, page):
    response = client.get(page)
    assert response.status_code == 200
    links = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", response.text)
    assert len(links) >= 2
    for link in links:
        assert not urlsplit(link).netloc, link
        fetched = client.get(link)
        assert fetched.status_code == 200, link
        assert fetched.content
    assert not re.search(r"https?://", response.text)


def test_the_style_sheets_of_the_documentation_fetch_nothing_either(client):
    page = client.get("/docs").text
    for link in re.findall(r'href="([^"]+\.css)"', page):
        imported = re.findall(r"url\(\s*[\"']?(?!data:)([^)\"']+)", client.get(link).text)
        assert not [target for target in imported if urlsplit(target).netloc]


def test_the_routes_are_the_documented_ones(openapi):
    found = {(verb, path) for path, verbs in openapi["paths"].items() for verb in verbs}
    assert found == ROUTES


def test_every_route_says_what_it_does(openapi):
    for path, verbs in openapi["paths"].items():
        for verb in verbs.values():
            assert verb["summary"], path
            assert verb["tags"], path


def test_errors_are_documented_in_the_shape_in_which_they_come(openapi):
    schemas = openapi["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    for path in ("/submit", "/batch_submit"):
        answer = openapi["paths"][path]["post"]["responses"]["422"]
        reference = answer["content"]["application/json"]["schema"]["$ref"]
        assert reference == "#/components/schemas/ErrorAnswer"
    assert set(schemas["ErrorBody"]["properties"]) == {"code", "message", "problems"}
    assert set(schemas["ProblemAnswer"]["properties"]) == {"field", "value", "allowed"}


def test_pictures_are_documented_as_png(openapi):
    for path in ("/download/{task_id}", "/images/{name}"):
        assert "image/png" in openapi["paths"][path]["get"]["responses"]["200"]["content"]
