"""GET /metrics, and what the middleware makes of requests."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from hidream_server.api.app import create_app
from hidream_server.api.counting import Counting
from hidream_server.api.measuring import SUBMISSIONS
from hidream_server.engine.health import EngineState
from hidream_server.errors import StoreUnavailableError
from hidream_server.keys import KeyLimits, Scope
from hidream_server.metrics.metrics import Metrics
from hidream_server.task import TaskState


def samples(client: TestClient, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Return the samples of this name in a scrape, by their labels."""
    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == name
    }


def counted(client: TestClient, method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}.items()
    return samples(client, "hidream_http_requests_total").get(frozenset(labels), 0.0)


def refused(client: TestClient) -> dict[str, float]:
    found = samples(client, "hidream_requests_total")
    return {
        dict(labels)["reason"]: value
        for labels, value in found.items()
        if ("status", "refused") in labels
    }


def test_prometheus_gets_its_own_format_and_openmetrics_if_it_prefers_that(client: TestClient):
    plain = client.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    wanted = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.2"
    answer = client.get("/metrics", headers={"Accept": wanted})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in open_families(answer.text)}
    assert {"hidream_requests", "hidream_layout", "hidream_ready"} <= names


def test_counts_are_of_one_server(client: TestClient, services: Any):
    client.get("/livez")
    other = TestClient(create_app(replace(services, metrics=Metrics())))
    assert counted(client, "GET", "/livez", 200) == 1
    assert counted(other, "GET", "/livez", 200) == 0


def test_readiness_and_layout_follow_the_engine(client: TestClient, engine: Any):
    assert samples(client, "hidream_ready") == {frozenset(): 1}
    engine.now = replace(
        engine.now, state=EngineState.DEGRADED, warm=False, layout="tp1", wanted_layout="tp4"
    )
    assert samples(client, "hidream_ready") == {frozenset(): 0}
    labels = {"layout": "tp1", "wanted": "tp4", "degraded": "true"}
    assert samples(client, "hidream_layout_info") == {frozenset(labels.items()): 1}


def test_without_a_database_the_length_of_the_queue_is_absent_and_the_rest_there(
    client: TestClient, queue: Any, monkeypatch: pytest.MonkeyPatch
):
    client.post("/submit", json={"prompt": "a sea"})
    assert samples(client, "hidream_num_queue_reqs") == {frozenset(): 1}

    def away() -> None:
        raise StoreUnavailableError

    monkeypatch.setattr(queue, "counts", away)
    assert client.get("/metrics").status_code == 200
    assert samples(client, "hidream_num_queue_reqs") == {}
    assert samples(client, "hidream_num_running_reqs") == {}
    assert samples(client, "hidream_ready") == {frozenset(): 1}


def test_a_database_that_hangs_takes_one_thread_and_little_time():
    class Hanging:
        asked = 0
        answers = threading.Event()

        def counts(self) -> dict[TaskState, int]:
            self.asked += 1
            assert self.answers.wait(20)
            return {TaskState.QUEUED: 7}

    async def scrape() -> None:
        counting = Counting(queue, patience_s=0.01)  # type: ignore[arg-type]
        assert [await counting.look() for _ in range(3)] == [None] * 3
        assert queue.asked == 1
        queue.answers.set()
        patient = Counting(queue, patience_s=20)  # type: ignore[arg-type]
        assert await patient.look() == {TaskState.QUEUED: 7}

    queue = Hanging()
    uvloop.run(scrape())


def test_a_submission_that_openais_route_refuses_is_counted_alike(client: TestClient):
    assert client.post("/v1/images/generations", json={"prompt": 5}).status_code == 400
    assert refused(client) == {"invalid_request": 1}


@pytest.mark.parametrize("path", ["/submit", "/batch_submit"])
def test_a_refused_submission_is_counted_by_its_error(client_with: Any, path: str):
    client = client_with(max_queue_length=1)
    body = {"prompt": "a sea"}
    good: Any = {"requests": [body]} if path == "/batch_submit" else body
    assert client.post(path, json=good).status_code == 200
    assert refused(client) == {}
    assert client.post(path, json=good).status_code == 429
    assert client.post(path, json={"prompt": 5}).status_code == 422
    assert client.post(path, content=b"{").status_code == 422
    assert client.get(path).status_code == 405
    assert refused(client) == {"queue_full": 1, "invalid_request": 2}


def test_a_submission_that_the_server_spoils_is_counted_too(
    client: TestClient, queue: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue, "submit", lambda *_: 1 / 0)
    assert client.post("/submit", json={"prompt": "a sea"}).status_code == 500
    assert refused(client) == {"internal": 1}
    assert counted(client, "POST", "/submit", 500) == 1


def test_what_a_client_makes_up_is_no_label(client: TestClient):
    for path in ("/nowhere/1", "/nowhere/2", "/images/a%2Fb"):
        assert client.get(path).status_code == 404
    client.request("BREW", "/livez")
    assert client.get("/status/not-a-task").status_code == 404
    assert counted(client, "GET", "other", 404) == 3
    assert counted(client, "other", "/livez", 405) == 1
    assert counted(client, "GET", "/status/{task_id}", 404) == 1
    assert "nowhere" not in client.get("/metrics").text
    assert "BREW" not in client.get("/metrics").text


def test_every_documented_route_has_its_template_as_label(app: FastAPI, client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    # A stream without an end.
    del paths["/events"]
    for path, verbs in paths.items():
        for verb in verbs:
            client.request(verb, path.replace("{", "").replace("}", ""))
    found = {dict(labels)["route"] for labels in samples(client, "hidream_http_requests_total")}
    assert set(paths) <= found
    assert set(paths) >= SUBMISSIONS


def test_who_has_no_key_is_counted_though_no_route_was_asked(client: TestClient, keys: Any):
    _, text = keys.create("prometheus", Scope.ADMIN, KeyLimits(), 1.0)
    assert client.post("/submit", json={"prompt": "a sea"}).status_code == 401
    scraped = client.get("/metrics", headers={"Authorization": f"Bearer {text}"}).text
    assert 'hidream_http_requests_total{method="POST",route="other",status="401"} 1.0' in scraped
    assert 'status="refused"' not in scraped


def test_what_is_turned_away_at_the_edge_is_counted(client_with: Any):
    client = client_with(max_body_mb=1)
    assert client.post("/submit", content=b" " * (2**20 + 1)).status_code == 413
    assert counted(client, "POST", "other", 413) == 1


def test_an_answer_is_timed_to_its_end(client: TestClient):
    for _ in range(3):
        client.get("/livez")
    times = samples(client, "hidream_http_request_seconds_count")
    assert times[frozenset({("route", "/livez")})] == 3
    total = samples(client, "hidream_http_request_seconds_sum")[frozenset({("route", "/livez")})]
    assert 0 < total < 10
