"""What every request passes first, and what every answer carries."""

import logging
import re
from dataclasses import replace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from hidream_server.api.app import create_app
from hidream_server.api.keyring import Keyring
from hidream_server.keys import KeyLimits, Scope
from hidream_server.logs import LineFormatter
from hidream_server.settings import Settings
from tests.api.support import error_of

PAGES = ["/docs", "/redoc", "/docs/oauth2-redirect"]


@pytest.fixture
def broken(app: FastAPI, client: TestClient) -> TestClient:
    """A client of a server whose /broken fails."""

    @app.get("/broken")
    def route() -> None:
        raise RuntimeError("no way")

    return client


def answers(client: TestClient):
    """Return answers of every kind, errors of the server and of the edge among them."""
    found = {
        200: client.get("/livez"),
        307: client.get("/livez/", follow_redirects=False),
        404: client.get("/nothing"),
        405: client.get("/submit"),
        413: client.post("/submit", headers={"content-length": str(2**40)}),
        422: client.post("/submit", json={}),
        500: client.get("/broken"),
    }
    assert [answer.status_code for answer in found.values()] == list(found)
    return found.values()


def test_what_is_no_request_passes(app):
    with TestClient(app) as started:
        assert started.get("/livez").status_code == 200


# Ids


def test_every_answer_has_an_id_of_its_own(broken):
    ids = [answer.headers.get_list("x-request-id") for answer in answers(broken)]
    assert all(len(found) == 1 and re.fullmatch("[0-9a-f]{32}", found[0]) for found in ids)
    assert len({found[0] for found in ids}) == len(ids)


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 128])
def test_an_id_is_taken_over_from_the_request(broken, given):
    broken.headers["x-request-id"] = given
    for answer in answers(broken):
        assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "a b", "a\tb", "a=b", "ä".encode("latin-1"), "a,b"]
)
def test_an_id_that_is_no_plain_word_is_not_taken_over(client, given):
    answer = client.get("/livez", headers={"x-request-id": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_log_lines_name_the_request_that_they_are_about(broken, caplog):
    caplog.handler.setFormatter(LineFormatter())
    with caplog.at_level(logging.ERROR, "hidream_server"):
        broken.get("/broken", headers={"x-request-id": "mine-1"})
    assert "[task=- rank=- request=mine-1] hidream_server.api.errors: GET /broken" in caplog.text


# Headers for browsers


def test_every_answer_says_what_browsers_may_do_with_it(broken):
    for answer in answers(broken):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        policy = "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers.get_list("content-security-policy") == [policy]


@pytest.mark.parametrize("root_path", [None, "/hidream"])
@pytest.mark.parametrize("page", PAGES)
def test_only_pages_of_the_documentation_may_run_scripts_inside_them(client_with, page, root_path):
    client = client_with(root_path=root_path)
    policy = client.get(page).headers["content-security-policy"]
    assert "script-src 'self' 'unsafe-inline'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "https:" not in policy
    for path in ("/openapi.json", f"{page}x", "/static-offline-docs/favicon.png"):
        assert "unsafe" not in client.get(path).headers["content-security-policy"]


# Pages of other origins


PREFLIGHT = {
    "origin": "https://app.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, x-api-key, idempotency-key, last-event-id,"
    " content-type",
}


def cors_headers(answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-")}


def test_without_origins_no_page_of_another_may_call(client):
    assert client.options("/submit", headers=PREFLIGHT).status_code == 405
    assert cors_headers(client.get("/livez", headers={"origin": "https://app.example"})) == {}


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [("*", "*"), ("https://other.example,https://app.example", "https://app.example")],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_page_of_an_origin_that_is_named_may_ask_before_it_calls(
    client_with, origins, allowed, method
):
    asked = PREFLIGHT | {"access-control-request-method": method}
    answer = client_with(cors_origins=origins).options("/submit", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == allowed
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    named = answer.headers["access-control-allow-headers"].lower().split(", ")
    for header in PREFLIGHT["access-control-request-headers"].split(", "):
        assert header in named
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_page_of_another_origin_may_not(client_with):
    client = client_with(cors_origins="https://app.example")
    stranger = {"origin": "https://app.example.evil"}
    assert client.options("/submit", headers=PREFLIGHT | stranger).status_code == 400
    answer = client.get("/livez", headers=stranger)
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_may_read_every_answer_its_id_and_when_to_come_again(client_with):
    client = client_with(cors_origins="https://app.example")

    @client.app.get("/broken")
    def route() -> None:
        raise RuntimeError("no way")

    client.headers["origin"] = "https://app.example"
    for answer in answers(client):
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert exposed == ["x-request-id", "retry-after", "x-should-retry"]
        assert "Origin" in answer.headers["vary"]


# Bodies


def test_a_body_that_is_too_large_leaves_no_task(client_with, queue):
    client = client_with(max_body_mb=1)
    large = b'{"prompt": "a"}' + b" " * 2**20
    for content in (large, iter([large])):
        answer = client.post(
            "/submit", content=content, headers={"content-type": "application/json"}
        )
        error = error_of(answer, 413)
        assert error["code"] == "body_too_large"
        assert "1 MiB" in error["message"]
    assert sum(queue.counts().values()) == 0


def test_a_body_that_is_too_large_is_refused_as_openais_clients_expect_it(client):
    answer = client.post("/v1/images/generations", headers={"content-length": str(2**40)})
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "body_too_large")


# Under a path


STRIPPED, WHOLE = "", "/hidream"


@pytest.fixture(params=[STRIPPED, WHOLE], ids=["stripped", "whole"])
def sent(request) -> str:
    """What the proxy leaves of the path under which this server is."""
    return request.param


def test_links_in_answers_carry_the_path_whether_the_proxy_strips_it_or_not(
    client_with, completed, sent
):
    task = completed()
    client = client_with(root_path="/hidream")
    [url] = client.get(f"{sent}/status/{task.id}").json()["result_urls"]
    assert url == f"http://testserver/hidream/images/{task.pictures[0]}"
    assert client.get(sent + url.removeprefix("http://testserver/hidream")).status_code == 200
    assert client.get(f"{sent}/").json()["docs"] == "/hidream/docs"


def test_an_address_that_is_configured_is_used_as_it_is(client_with, completed):
    task = completed()
    client = client_with(root_path="/hidream", api_base_url="https://a.example/b")
    [url] = client.get(f"/status/{task.id}").json()["result_urls"]
    assert url == f"https://a.example/b/images/{task.pictures[0]}"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_works_under_the_path(client_with, sent, page):
    client = client_with(root_path="/hidream")
    text = client.get(sent + page).text
    links = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", text)
    assert len(links) >= 2
    for link in links:
        assert link.startswith("/hidream/"), link
        assert client.get(sent + link.removeprefix("/hidream")).status_code == 200
    servers = client.get(f"{sent}/openapi.json").json()["servers"]
    assert servers == [{"url": "/hidream"}]


def test_errors_of_openais_routes_are_theirs_under_the_path_too(client_with, sent):
    answer = client_with(root_path="/hidream").post(f"{sent}/v1/images/generations", json={})
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_with_keys_the_same_is_open_under_the_path(services, completed, keys, sent):
    task = completed()
    _, key = keys.create("somebody", Scope.ADMIN, KeyLimits(), 1.0)
    settings = Settings(root_path="/hidream")
    client = TestClient(create_app(replace(services, settings=settings, keyring=Keyring(keys))))
    assert client.get(f"{sent}/livez").status_code == 200
    for path in (f"/images/{task.pictures[0]}", "/docs", "/livezx", "/limits"):
        error_of(client.get(sent + path), 401)
    status = client.get(f"{sent}/status/{task.id}", headers={"x-api-key": key}).json()
    [link] = status["result_urls"]
    assert client.get(sent + link.removeprefix("http://testserver/hidream")).status_code == 200


def test_a_redirect_stays_under_the_path(client_with, sent):
    client = client_with(root_path="/hidream")
    answer = client.get(f"{sent}/livez/", follow_redirects=False)
    assert answer.headers["location"] == "http://testserver/hidream/livez"


def test_a_path_that_only_begins_like_it_is_not_under_it(client_with):
    assert client_with(root_path="/hidream").get("/hidreamer/livez").status_code == 404
