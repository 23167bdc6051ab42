"""Whom a task's end is told: what may be asked for, what is kept of it, who sees it."""

import pytest

from hidream_server.keys import KeyLimits, Scope
from tests.api.support import error_of, problem_of

URL = "https://example.com/hook?token=1"
OTHER = "http://example.org:8080/"
KEY = {"Idempotency-Key": "order 17"}


def submit(client, headers=None, **fields):
    return client.post("/submit", json={"prompt": "a"} | fields, headers=headers)


def batch(client, *urls, **fields):
    """Submit a batch with a request for each of these URLs."""
    requests = [{"prompt": "a"} | ({"webhook_url": url} if url else {}) for url in urls]
    return client.post("/batch_submit", json={"requests": requests} | fields)


def receivers(queue, response):
    assert response.status_code == 200, response.text
    answers = response.json()
    answers = answers if isinstance(answers, list) else [answers]
    return [queue.get(answer["task_id"]).webhook_url for answer in answers]


def test_it_is_kept_with_the_task_and_is_nothing_by_default(client, queue):
    assert receivers(queue, submit(client, webhook_url=URL)) == [URL]
    assert receivers(queue, submit(client, webhook_url=None)) == [None]
    assert receivers(queue, submit(client)) == [None]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("ftp://example.com", "an http or https URL"),
        ("", "an http or https URL"),
        ("https://user@example.com", "a URL without user name and password"),
        ("https://localhost/hook", "a host that has public addresses only"),
        ("http://127.0.0.1:9/hook", "a host that has public addresses only"),
        ("http://169.254.169.254/", "a host that has public addresses only"),
        ("https://例子.com", "printable ASCII"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(client, queue, url, allowed):
    problem = problem_of(submit(client, webhook_url=url))
    assert (problem["field"], problem["value"]) == ("webhook_url", url)
    assert allowed in problem["allowed"]
    assert sum(queue.counts().values()) == 0


@pytest.mark.parametrize("value", [5, True, [URL], {"url": URL}], ids=repr)
def test_it_is_a_text(client, value):
    problem = problem_of(submit(client, webhook_url=value))
    assert problem["field"] == "webhook_url"
    assert "string" in problem["allowed"]


def test_it_is_refused_together_with_what_else_is_wrong(client):
    problems = error_of(submit(client, seed=-1, webhook_url="x"), 422)["problems"]
    assert {problem["field"] for problem in problems} == {"seed", "webhook_url"}


def test_private_addresses_are_for_the_servers_owner_to_allow(client_with, queue):
    client = client_with(webhook_allow_private=True)
    assert submit(client, webhook_url="http://127.0.0.1:9/hook").status_code == 200
    assert problem_of(submit(client, webhook_url="http://169.254.169.254/"))


def test_a_batch_has_one_for_all_that_have_none(client, queue):
    assert receivers(queue, batch(client, None, OTHER, webhook_url=URL)) == [URL, OTHER]
    assert receivers(queue, batch(client, None, OTHER)) == [None, OTHER]


def test_of_a_batch_it_is_said_which_is_wrong(client, queue):
    assert problem_of(batch(client, URL, "x"))["field"] == "requests.1.webhook_url"
    assert problem_of(batch(client, URL, None, webhook_url="x"))["field"] == "webhook_url"
    assert sum(queue.counts().values()) == 0


@pytest.mark.parametrize("change", [{"webhook_url": OTHER}, {"webhook_url": None}])
def test_another_receiver_makes_another_request(client, change):
    first = submit(client, KEY, webhook_url=URL).json()
    assert submit(client, KEY, webhook_url=URL).json()["task_id"] == first["task_id"]
    response = submit(client, KEY, **({"webhook_url": URL} | change))
    assert error_of(response, 422)["code"] == "request_reused"


def test_nobody_is_shown_it_for_it_may_hold_a_secret(client):
    task_id = submit(client, webhook_url=URL).json()["task_id"]
    for path in (f"/tasks/{task_id}", "/tasks"):
        assert "example.com" not in client.get(path).text
    assert "example.com" not in client.post(f"/tasks/{task_id}/cancel").text


def test_a_retry_tells_the_same(client, queue):
    task_id = submit(client, webhook_url=URL).json()["task_id"]
    client.post(f"/tasks/{task_id}/cancel")
    assert receivers(queue, client.post(f"/tasks/{task_id}/retry")) == [URL]


def test_a_retry_of_anothers_task_tells_the_other_nothing(client, queue, keys):
    (_, anna), (_, boss) = (
        keys.create("a", scope, KeyLimits(), 1.0) for scope in (Scope.GENERATE, Scope.ADMIN)
    )
    anna, boss = {"X-API-Key": anna}, {"X-API-Key": boss}
    task_id = submit(client, anna, webhook_url=URL).json()["task_id"]
    client.post(f"/tasks/{task_id}/cancel", headers=anna)
    again = [client.post(f"/tasks/{task_id}/retry", headers=who) for who in (anna, boss)]
    assert [receivers(queue, response) for response in again] == [[URL], [None]]


def test_the_documentation_says_how_long_it_may_be(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    field = schemas["GenerationRequest"]["properties"]["webhook_url"]
    assert field["anyOf"][0]["maxLength"] == 2048
    assert problem_of(submit(client, webhook_url=f"https://example.com/{'a' * 2048}"))
