"""Submissions that come again, and those for which there is no room."""

import uuid
from dataclasses import replace

import pytest

from hidream_server.errors import StoreUnavailableError
from hidream_server.task import TaskState
from tests.api.support import error_of, problem_of

BODY = {"prompt": "a red circle", "num_inference_steps": 4}
KEY = {"Idempotency-Key": "order 17"}


def count(queue) -> int:
    return sum(queue.counts().values())


# The same again


def test_the_same_key_and_body_is_the_same_task(client, queue):
    answers = [client.post("/submit", json=BODY, headers=KEY) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert count(queue) == 1


def test_the_answer_says_how_the_task_is_doing_now(client, queue):
    task_id = client.post("/submit", json=BODY, headers=KEY).json()["task_id"]
    queue.cancel(task_id)
    again = client.post("/submit", json=BODY, headers=KEY).json()
    assert (again["task_id"], again["status"], again["estimated_time"]) == (task_id, "cancelled", 0)


def test_a_drawn_seed_is_drawn_once(client):
    first, again = (client.post("/submit", json=BODY, headers=KEY).json() for _ in range(2))
    seeds = [client.get(f"/status/{a['task_id']}").json()["seeds"] for a in (first, again)]
    assert seeds[0] == seeds[1]


@pytest.mark.parametrize("change", [{"seed": 3}, {"prompt": "another"}, {"priority": "high"}])
def test_the_same_key_with_another_body_is_refused(client, queue, change):
    client.post("/submit", json=BODY, headers=KEY)
    response = client.post("/submit", json=BODY | change, headers=KEY)
    error = error_of(response, 422)
    assert error["code"] == "request_reused"
    assert "order 17" in error["message"]
    assert count(queue) == 1


def test_a_default_that_is_written_out_makes_no_other_body(client, queue):
    client.post("/submit", json=BODY, headers=KEY)
    same = BODY | {"resolution": "1024x1024", "seed": None}
    assert client.post("/submit", json=same, headers=KEY).status_code == 200
    assert count(queue) == 1


def test_without_a_key_every_submission_is_a_task(client, queue):
    for _ in range(2):
        client.post("/submit", json=BODY)
    assert count(queue) == 2


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "tab\there", " x"])
def test_a_key_that_cannot_be_one_is_refused_by_name(client, key):
    response = client.post("/submit", json=BODY, headers={"Idempotency-Key": key})
    # What a client library trims, or may not send at all, is its own business.
    if response.status_code != 200:
        problem = problem_of(response)
        assert problem["field"] == "idempotency-key"
        assert problem["allowed"].startswith("1 to 255 printable ASCII")
    else:
        assert key == " x"


def test_a_batch_is_known_again_as_a_whole(client, queue):
    batch = {"requests": [BODY, BODY | {"seed": 2}]}
    first, again = (client.post("/batch_submit", json=batch, headers=KEY).json() for _ in range(2))
    assert [a["task_id"] for a in first] == [a["task_id"] for a in again]
    for other in ([BODY], [BODY | {"seed": 2}, BODY]):
        response = client.post("/batch_submit", json={"requests": other}, headers=KEY)
        assert error_of(response, 422)["code"] == "request_reused"
    assert count(queue) == 2


# Ids that clients choose


def test_a_task_may_have_an_id_of_the_clients_own(client, queue):
    mine = str(uuid.uuid4())
    for text in (mine, mine.upper()):
        answer = client.post("/submit", json=BODY | {"task_id": text}).json()
        assert answer["task_id"] == mine
    assert count(queue) == 1
    response = client.post("/submit", json=BODY | {"task_id": mine, "seed": 1})
    assert error_of(response, 422)["code"] == "request_reused"


@pytest.mark.parametrize("wrong", ["17", "", "../x", "3f0d6a1e9c1b4e578a440b6f6d2f9c11", 17])
def test_an_id_that_is_no_uuid_is_refused(client, wrong):
    assert problem_of(client.post("/submit", json=BODY | {"task_id": wrong}))["field"] == "task_id"


def test_two_tasks_of_a_batch_cannot_have_one_id(client, queue):
    twice = [BODY | {"task_id": str(uuid.UUID(int=5))}] * 2
    response = client.post("/batch_submit", json={"requests": twice})
    assert problem_of(response)["field"] == "requests"
    assert count(queue) == 0


def test_a_request_has_one_name(client, queue):
    body = BODY | {"task_id": str(uuid.UUID(int=5))}
    assert problem_of(client.post("/submit", json=body, headers=KEY))["field"] == "task_id"
    assert count(queue) == 0


# No room


def test_a_full_queue_is_429_and_says_when_to_come_again(client_with, queue):
    client = client_with(max_queue_length=2)
    for _ in range(2):
        assert client.post("/submit", json=BODY).status_code == 200
    response = client.post("/submit", json=BODY)
    assert error_of(response, 429)["code"] == "queue_full"
    assert int(response.headers["Retry-After"]) >= 1
    assert count(queue) == 2
    queue.claim("g", 1)
    assert client.post("/submit", json=BODY).status_code == 200


def test_what_was_accepted_is_answered_though_the_queue_is_full(client_with):
    client = client_with(max_queue_length=1)
    first = client.post("/submit", json=BODY, headers=KEY).json()
    assert client.post("/submit", json=BODY).status_code == 429
    again = client.post("/submit", json=BODY, headers=KEY)
    assert (again.status_code, again.json()["task_id"]) == (200, first["task_id"])


def test_what_was_accepted_is_answered_though_its_deadline_has_passed(client, queue, monkeypatch):
    body = BODY | {"deadline_s": 1000.0}
    first = client.post("/submit", json=body, headers=KEY).json()
    monkeypatch.setattr(queue.prospects, "estimate", lambda drafts: [1e6] * len(drafts))
    assert client.post("/submit", json=body).status_code == 422
    again = client.post("/submit", json=body, headers=KEY)
    assert (again.status_code, again.json()["task_id"]) == (200, first["task_id"])


def test_too_many_images_in_a_minute_is_429(client_with):
    client = client_with(max_images_per_minute=3)
    assert client.post("/submit", json=BODY | {"num_images_per_prompt": 3}).status_code == 200
    response = client.post("/submit", json=BODY)
    assert error_of(response, 429)["code"] == "rate_limited"
    assert 55 <= int(response.headers["Retry-After"]) <= 60


def test_too_many_tasks_of_a_client_is_429(client_with):
    client = client_with(max_queued_per_client=1)
    assert client.post("/submit", json=BODY).status_code == 200
    response = client.post("/submit", json=BODY)
    assert error_of(response, 429)["code"] == "client_queue_full"


@pytest.mark.parametrize(
    "options", [{"max_queue_length": 2}, {"max_queued_per_client": 2}, {"max_images_per_minute": 2}]
)
def test_what_could_never_be_accepted_is_422_at_once(client_with, queue, options):
    response = client_with(**options).post("/batch_submit", json={"requests": [BODY] * 3})
    assert problem_of(response)["field"] == "requests"
    assert count(queue) == 0


def test_more_images_than_a_minute_allows_are_out_of_range(client_with):
    client = client_with(max_images_per_minute=2)
    response = client.post("/submit", json=BODY | {"num_images_per_prompt": 3})
    assert problem_of(response)["allowed"] == "1 to 2"


# A database that is away


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/submit"), ("GET", "/status/x"), ("GET", "/health")]
)
def test_a_database_that_is_away_is_503_and_says_when_to_come_again(
    client, store, monkeypatch, method, path
):
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError

    for verb in ("insert", "earlier", "find", "counts"):
        monkeypatch.setattr(store, verb, away)
    response = client.request(method, path, json=BODY if method == "POST" else None)
    error = error_of(response, 503)
    assert error["code"] == "store_unavailable"
    assert int(response.headers["Retry-After"]) >= 1
    assert client.get("/livez").status_code == 200


# Pictures that are gone


def test_expired_pictures_are_410_and_the_status_says_so(client, store, completed, monkeypatch):
    task = completed()
    url = client.get(f"/status/{task.id}").json()["result_urls"][0]
    gone = replace(task, expired_at=5.0)
    monkeypatch.setattr(store, "find", lambda _ids: [gone])
    for path in (url, f"/download/{task.id}"):
        assert error_of(client.get(path), 410)["code"] == "picture_expired"
    status = client.get(f"/status/{task.id}").json()
    assert (status["status"], status["result_urls"]) == (TaskState.COMPLETED, [])
    assert status["pictures_expired"] is True
