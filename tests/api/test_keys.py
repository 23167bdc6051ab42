"""Once there are keys: who gets in, what of others they see, and which links open without."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from hidream_server.api import keyring
from hidream_server.api.app import create_app
from hidream_server.api.keyring import Keyring, LinkSigner
from hidream_server.errors import StoreUnavailableError
from hidream_server.keys import KeyLimits, Scope
from hidream_server.store.pictures import preview_key
from hidream_server.task import Priority
from tests.api.openai.conftest import png
from tests.api.support import error_of, problem_of
from tests.support import Clock

BODY = {"prompt": "a red circle", "seed": 5}
PICTURE = png(64, 64)
NO_KEY = "hd_00000000_" + "A" * 43


@dataclass
class Bearer:
    """One who has a key."""

    id: str
    text: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.text}"}


@pytest.fixture
def bearer(keys) -> Callable[..., Bearer]:
    def make(scope: Scope = Scope.GENERATE, **limits) -> Bearer:
        key, text = keys.create("somebody", scope, KeyLimits(**limits), 1.0)
        return Bearer(key.id, text)

    return make


@pytest.fixture
def anna(bearer) -> Bearer:
    return bearer()


@pytest.fixture
def ben(bearer) -> Bearer:
    return bearer()


@pytest.fixture
def admin(bearer) -> Bearer:
    return bearer(Scope.ADMIN)


@pytest.fixture
def done(client, anna, services) -> str:
    """Return the id of a task of Anna's that has a picture."""
    task_id = client.post("/submit", json=BODY, headers=anna.headers).json()["task_id"]
    [task] = services.queue.claim("group", 1)
    name = f"{task_id}_1_0.png"
    services.results.pictures.put(name, PICTURE)
    assert services.queue.complete((task.id, 1), [name], {})
    return task_id


# Every route × who asks. Of a route that names a task it is Anna's; others are her own business.

OPEN = {"/": 200, "/studio": 200, "/studio/": 200, "/livez": 200, "/readyz": 200, "/health": 200}
ANYONES = {
    ("GET", "/limits"): 200,
    ("GET", "/groups"): 200,
    ("GET", "/docs"): 200,
    ("GET", "/redoc"): 200,
    ("GET", "/openapi.json"): 200,
    ("POST", "/submit"): 200,
    ("POST", "/batch_submit"): 200,
    ("GET", "/tasks"): 200,
    ("GET", "/v1/models"): 200,
    ("GET", "/v1/models/{model:path}"): 404,
    ("POST", "/v1/images/generations"): 400,
    ("POST", "/v1/images/edits"): 400,
    ("POST", "/v1/images/variations"): 400,
    ("GET", "/v1/files"): 200,
    ("POST", "/v1/files"): 400,
    ("GET", "/v1/batches"): 200,
    ("POST", "/v1/batches"): 400,
    ("GET", "/nowhere"): 404,
}
ONES_OWN = {
    ("GET", "/status/{task_id}"): 200,
    ("GET", "/tasks/{task_id}"): 200,
    ("GET", "/tasks/{task_id}/events"): 200,
    ("GET", "/download/{task_id}"): 200,
    ("GET", "/images/{name}"): 200,
    ("GET", "/preview/{task_id}"): 404,
    ("POST", "/tasks/{task_id}/cancel"): 409,
    ("POST", "/tasks/{task_id}/retry"): 409,
    ("DELETE", "/tasks/{task_id}"): 204,
}
#: Only for those who may see everything.
ADMINS = {("GET", "/metrics"): 200}
#: OpenAI's, of a file and a batch.
ONES_OWN_THERE = {
    ("GET", "/v1/files/{file_id}"): 200,
    ("GET", "/v1/files/{file_id}/content"): 200,
    ("DELETE", "/v1/files/{file_id}"): 200,
    ("GET", "/v1/batches/{batch_id}"): 200,
    ("POST", "/v1/batches/{batch_id}/cancel"): 200,
}
#: A stream without an end; tried where it can be left.
ENDLESS = {("GET", "/events")}


def ask(client, method: str, path: str, task_id: str, headers: Mapping[str, str], **ids: str):
    """Ask a route, about a task, or a file or a batch, where it takes one."""
    path = path.replace("{model:path}", "none")
    ids = {"file_id": "none", "batch_id": "none"} | ids
    path = path.format(task_id=task_id, name=f"{task_id}_1_0.png", **ids)
    bodies = {"/submit": BODY, "/batch_submit": {"requests": [BODY]}}
    return client.request(method, path, json=bodies.get(path), headers=headers)


def test_the_table_has_every_route(app):
    routes = {
        (method, route.path)
        for route in app.routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD" and not route.path.startswith(("/static", "/docs/oauth2"))
    }
    for included in app.router.routes:
        for route in getattr(getattr(included, "original_router", None), "routes", ()):
            routes |= {(method, route.path) for method in route.methods}
    listed = {*ANYONES, *ONES_OWN, *ONES_OWN_THERE, *ADMINS, *ENDLESS}
    listed |= {("GET", path) for path in OPEN}
    assert routes == listed - {("GET", "/nowhere")}


@pytest.mark.parametrize("path", OPEN)
def test_health_is_answered_without_a_key(client, anna, path):
    assert client.get(path).status_code == OPEN[path]


@pytest.mark.parametrize(
    ("method", "path"), [*ANYONES, *ONES_OWN, *ONES_OWN_THERE, *ADMINS, *ENDLESS]
)
def test_nothing_else_is(client, done, method, path):
    for headers in ({}, {"Authorization": f"Bearer {NO_KEY}"}, {"X-API-Key": "guess"}):
        response = ask(client, method, path, done, headers)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), ANYONES)
def test_a_key_opens_the_door(client, done, ben, admin, method, path):
    for who in (ben, admin):
        assert ask(client, method, path, done, who.headers).status_code == ANYONES[method, path]


@pytest.mark.parametrize(("method", "path"), ONES_OWN)
def test_a_task_is_there_for_its_owner_and_for_admins_alone(
    client, done, anna, ben, admin, method, path
):
    assert error_of(ask(client, method, path, done, ben.headers), 404)["code"] in (
        "task_not_found",
        "picture_not_found",
    )
    assert client.get(f"/status/{done}", headers=anna.headers).json()["status"] == "completed"
    expected = ONES_OWN[method, path]
    assert ask(client, method, path, done, admin.headers).status_code == expected
    if method != "DELETE":
        assert ask(client, method, path, done, anna.headers).status_code == expected


@pytest.mark.parametrize(("method", "path"), ADMINS)
def test_what_tells_of_everybody_is_for_admins_alone(client, done, ben, admin, method, path):
    assert error_of(ask(client, method, path, done, ben.headers), 403)["code"] == "forbidden"
    answered = ask(client, method, path, done, admin.headers)
    assert answered.status_code == ADMINS[method, path]


@pytest.fixture
def asked_there(client, anna) -> dict[str, str]:
    """Return the ids of a file and a batch of Anna's, whose task is queued."""
    line = {"custom_id": "a", "method": "POST", "url": "/v1/images/generations", "body": BODY}
    upload = {"file": ("lines.jsonl", json.dumps(line).encode())}
    answer = client.post("/v1/files", files=upload, data={"purpose": "batch"}, headers=anna.headers)
    wanted = {
        "input_file_id": answer.json()["id"],
        "endpoint": "/v1/images/generations",
        "completion_window": "24h",
    }
    batch = client.post("/v1/batches", json=wanted, headers=anna.headers).json()
    return {"file_id": batch["input_file_id"], "batch_id": batch["id"]}


@pytest.mark.parametrize(("method", "path"), ONES_OWN_THERE)
@pytest.mark.parametrize("who", ["anna", "admin"])
def test_a_file_and_a_batch_are_there_for_their_owner_and_for_admins_alone(
    client, asked_there, ben, request, method, path, who
):
    refused = ask(client, method, path, "none", ben.headers, **asked_there)
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] in ("batch_file_not_found", "batch_not_found")
    headers = request.getfixturevalue(who).headers
    answer = ask(client, method, path, "none", headers, **asked_there)
    assert answer.status_code == ONES_OWN_THERE[method, path]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
def test_lists_have_ones_own_files_and_batches(client, asked_there, anna, ben, admin, path):
    def listed(who: Bearer) -> int:
        return len(client.get(path, headers=who.headers).json()["data"])

    assert (listed(anna), listed(ben), listed(admin)) == (1, 0, 1)


def test_a_list_has_ones_own_tasks(client, done, anna, ben, admin):
    def listed(who: Bearer) -> list[str]:
        tasks = client.get("/tasks", headers=who.headers).json()["tasks"]
        return [task["task_id"] for task in tasks]

    assert (listed(anna), listed(ben), listed(admin)) == ([done], [], [done])


def test_the_same_idempotency_key_of_two_bearers_names_two_requests(client, anna, ben):
    ids = {
        client.post("/submit", json=BODY, headers=who.headers | {"Idempotency-Key": "k"}).json()[
            "task_id"
        ]
        for who in (anna, ben, anna)
    }
    assert len(ids) == 2


def test_a_key_may_be_sent_either_way(client, anna):
    assert client.get("/tasks", headers={"X-API-Key": anna.text}).status_code == 200
    assert client.get("/tasks", headers={"authorization": f"bearer {anna.text}"}).status_code == 200


# Links


def test_the_links_of_an_answer_open_without_a_key_and_no_others_do(client, done, anna):
    [link] = client.get(f"/status/{done}", headers=anna.headers).json()["result_urls"]
    assert client.get(link).content == PICTURE
    url = urlsplit(link)
    assert error_of(client.get(url.path), 401)
    assert error_of(client.get(link[:-1] + ("0" if link[-1] != "0" else "1")), 401)
    assert error_of(client.get(f"/download/{done}?{url.query}"), 401)
    assert error_of(client.get(f"/preview/{done}?{url.query}"), 401)
    assert error_of(client.delete(f"/tasks/{done}?{url.query}"), 401)
    webp = client.get(link.replace(".png?", ".jpeg?"))
    assert webp.status_code != 401
    other = url.path.replace("_0.png", "_1.png")
    assert error_of(client.get(f"{other}?{url.query}"), 401)


def test_a_link_is_good_for_its_lifetime():
    clock = Clock(1000.0)
    signer = LinkSigner(b"secret", 60.0, clock)
    expires, signature = (part.split("=")[1] for part in signer.query("/images/a.png").split("&"))
    assert signer.holds("/images/a.png", expires, signature)
    assert not LinkSigner(b"other", 60.0, clock).holds("/images/a.png", expires, signature)
    assert not signer.holds("/images/a.png", str(int(expires) + 1), signature)
    clock.now = 1060.0
    assert not signer.holds("/images/a.png", expires, signature)


def test_a_link_opens_the_image_that_it_names_and_no_other(client, running, anna, services, queue):
    headers = anna.headers
    body = BODY | {"num_images_per_prompt": 2, "num_previews": 1}
    task_id = client.post("/submit", json=body, headers=headers).json()["task_id"]
    for index in range(2):
        services.results.previews.put(preview_key(task_id, 0, index), b"preview %d" % index)
    link = f"/preview/{task_id}?image_index=0"
    link += "&" + services.signer.query(link)
    assert client.get(link).content == b"preview 0"
    for other in (f"{link}&image_index=1", link.replace("index=0", "index=1&image_index=0")):
        answer = client.get(other)
        assert answer.status_code == 401 or answer.content == b"preview 0"


def test_the_id_of_anothers_task_is_taken(client, anna, ben):
    named = BODY | {"task_id": "3f0d6a1e-9c1b-4e57-8a44-0b6f6d2f9c11"}
    assert client.post("/submit", json=named, headers=anna.headers).status_code == 200
    assert client.post("/submit", json=named, headers=anna.headers).status_code == 200
    refused = client.post("/submit", json=named, headers=ben.headers)
    assert error_of(refused, 422)["code"] == "request_reused"


def test_a_task_that_is_deleted_counts_for_the_minute_all_the_same(client, bearer):
    headers = bearer(max_images_per_minute=1).headers
    task_id = client.post("/submit", json=BODY, headers=headers).json()["task_id"]
    assert client.delete(f"/tasks/{task_id}", headers=headers).status_code == 204
    refused = client.post("/submit", json=BODY, headers=headers)
    assert error_of(refused, 429)["code"] == "rate_limited"


def test_what_is_no_signature_is_none(client, done, anna):
    query = "expires=99999999999&signature=%C3%A9"
    assert error_of(client.get(f"/images/{done}_1_0.png?{query}"), 401)


@pytest.mark.parametrize("expires", ["", "-1", "1e99", "٣", "9" * 400])
def test_a_link_that_was_made_up_is_none(client, done, anna, expires):
    query = {"expires": expires, "signature": "0" * 32}
    assert error_of(client.get(f"/images/{done}_1_0.png", params=query), 401)


def test_without_keys_links_are_plain(client, completed):
    [link] = client.get(f"/status/{completed().id}").json()["result_urls"]
    assert "?" not in link


# What a key allows


def test_a_key_has_limits_of_its_own(client, bearer):
    small = bearer(max_queued=1)
    answers = [client.post("/submit", json=BODY, headers=small.headers) for _ in range(2)]
    assert answers[0].status_code == 200
    assert error_of(answers[1], 429)["code"] == "client_queue_full"
    assert client.post("/submit", json=BODY, headers=bearer().headers).status_code == 200


def test_a_key_may_ask_for_so_many_images_a_minute(client, bearer):
    headers = bearer(max_images_per_minute=3).headers
    two = BODY | {"num_images_per_prompt": 2}
    assert client.post("/submit", json=two, headers=headers).status_code == 200
    response = client.post("/submit", json=two, headers=headers)
    assert error_of(response, 429)["code"] == "rate_limited"
    assert 50 <= int(response.headers["Retry-After"]) <= 60
    four = BODY | {"num_images_per_prompt": 4}
    problem = problem_of(client.post("/submit", json=four, headers=headers))
    assert problem["field"] == "num_images_per_prompt"


def test_a_key_has_a_highest_priority(client, bearer):
    headers = bearer(priority=Priority.NORMAL).headers
    for priority in ("low", "normal"):
        body = BODY | {"priority": priority}
        assert client.post("/submit", json=body, headers=headers).status_code == 200
    response = client.post("/submit", json=BODY | {"priority": "high"}, headers=headers)
    assert problem_of(response)["field"] == "priority"


def test_a_keys_weight_and_bound_go_with_its_tasks(client, queue, bearer):
    who = bearer(weight=2.5, max_running=1)
    ids = [
        client.post("/submit", json=BODY, headers=who.headers).json()["task_id"] for _ in range(2)
    ]
    tasks = queue.find(ids)
    assert {(task.client, task.weight) for task in tasks} == {(who.id, 2.5)}
    assert len(queue.claim("group", 2)) == 1


# Knowing keys


def test_a_key_that_is_revoked_is_no_key_within_seconds(services, keys, anna, queue):
    clock = Clock()
    ring = Keyring(keys, clock)

    def status(client: TestClient) -> int:
        return client.get("/tasks", headers=anna.headers).status_code

    with TestClient(create_app(replace(services, keyring=ring))) as client:
        assert status(client) == 200
        assert keys.revoke(anna.id, 2.0)
        assert not keys.revoke(anna.id, 3.0)
        clock.now += keyring.FRESH_S + 0.1
        assert status(client) == 401
        # A service whose keys are all revoked is closed, not open.
        assert client.get("/tasks").status_code == 401


def test_a_good_key_is_looked_up_once_for_many_requests(client, keys, anna, monkeypatch):
    looked = []
    find = keys.find

    def counted(text):
        looked.append(text)
        return find(text)

    monkeypatch.setattr(keys, "find", counted)
    for _ in range(10):
        assert client.get("/tasks", headers=anna.headers).status_code == 200
    assert len(looked) == 1


def test_a_database_that_is_away_lets_nobody_in_and_says_so(client, keys, anna, monkeypatch):
    def away(*_):
        raise StoreUnavailableError

    monkeypatch.setattr(keys, "find", away)
    response = client.get("/tasks", headers=anna.headers)
    assert error_of(response, 503)["code"] == "store_unavailable"
    monkeypatch.setattr(keys, "count", away)
    assert client.get("/livez").status_code == 200


def test_a_key_that_was_good_is_good_while_the_database_is_away(services, keys, anna, monkeypatch):
    clock = Clock()

    def away(*_):
        raise StoreUnavailableError

    with TestClient(create_app(replace(services, keyring=Keyring(keys, clock)))) as client:
        assert client.get("/limits", headers=anna.headers).status_code == 200
        for verb in ("find", "count"):
            monkeypatch.setattr(keys, verb, away)
        clock.now += 60.0
        assert client.get("/limits", headers=anna.headers).status_code == 200
        clock.now += 3600.0
        assert error_of(client.get("/limits", headers=anna.headers), 503)


def test_the_database_has_no_key_in_it(database, anna, tmp_path):
    database.dispose()
    assert anna.text.encode() not in b"".join(
        path.read_bytes() for path in tmp_path.glob("tasks.db*")
    )
    secret_part = anna.text.rpartition("_")[2]
    assert secret_part.encode() not in (tmp_path / "tasks.db").read_bytes()
