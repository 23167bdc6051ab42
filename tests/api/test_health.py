"""Alive, ready, and how it is doing."""

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from hidream_server import __version__
from hidream_server.api.app import create_app
from hidream_server.demo import DEMO_NOTICE
from hidream_server.engine.health import EngineState
from tests.support import a_member


@pytest.fixture(params=EngineState)
def state(request, engine) -> EngineState:
    warm = request.param is not EngineState.STARTING
    engine.now = replace(engine.now, state=request.param, warm=warm)
    return request.param


def test_the_server_is_alive_whatever_the_engine_does(client, state):
    response = client.get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


def test_it_is_ready_when_a_group_is_warm_even_a_smaller_one(client, state):
    response = client.get("/readyz")
    ready = state in (EngineState.HEALTHY, EngineState.DEGRADED)
    assert response.status_code == (200 if ready else 503)
    assert response.json() == {"status": state}


def test_health_answers_whatever_the_engine_does(client, state):
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json()["status"] == state
    ready = state in (EngineState.HEALTHY, EngineState.DEGRADED)
    assert response.json()["pipeline_ready"] is ready


def test_tasks_are_accepted_whatever_the_engine_does(client, state):
    assert client.post("/submit", json={"prompt": "a"}).status_code == 200


def test_health_counts_the_tasks(client, queue, completed):
    completed()
    for _ in range(5):
        client.post("/submit", json={"prompt": "a"})
    queue.claim("group", 2)
    health = client.get("/health").json()
    counted = (health["queue_length"], health["active_tasks"], health["total_tasks"])
    assert counted == (3, 2, 6)


def test_health_says_what_is_served_on_what(client, engine):
    engine.now = replace(engine.now, memory_bytes=2**30)
    health = client.get("/health").json()
    assert health["version"] == __version__
    assert health["model"] == {
        "name": "HiDream-I1-Demo",
        "variant": "Full",
        "sampler": "UniPCMultistepScheduler",
        "demo": True,
        "notice": DEMO_NOTICE,
    }
    assert health["device"] == {
        "type": "cpu",
        "ids": [0],
        "dtype": "float32",
        "memory_bytes": 2**30,
    }
    assert health["layout"] == health["wanted_layout"] == "tp1"


def test_a_real_model_has_no_notice(services):
    real = replace(services, model=replace(services.model, is_demo=False))
    model = TestClient(create_app(real)).get("/health").json()["model"]
    assert (model["demo"], model["notice"]) == (False, None)


def test_a_degraded_engine_says_why_and_since_when(client, engine):
    engine.now = replace(engine.now, state=EngineState.DEGRADED, reason="rank 0 left")
    health = client.get("/health").json()
    assert health["reason"] == "rank 0 left"
    assert health["since"] == "2023-11-14T22:13:20Z"


def test_the_root_says_who_is_there_and_where_the_documentation_is(client, state):
    root = client.get("/").json()
    assert root["status"] == state
    assert root["version"] == __version__
    assert client.get(root["docs"]).status_code == 200


def test_a_server_without_any_group_says_so(services):
    alone = TestClient(create_app(replace(services, members=list)))
    health = alone.get("/health").json()
    assert (health["status"], health["device"]) == ("degraded", None)
    assert health["reason"] == "No worker group is there."
    assert alone.get("/readyz").status_code == 503
    assert 'device=""' in alone.get("/metrics").text


def test_several_groups_are_as_well_as_the_worst_of_them(services, engine):
    lost = replace(engine.now, state=EngineState.DEGRADED, reason="A rank left.", warm=False)
    more = {"type": "cpu", "ids": [4, 5], "dtype": "float32"}
    members = [a_member(engine.now), a_member(lost, id="here#1", devices=more)]
    several = TestClient(create_app(replace(services, members=lambda: members)))
    health = several.get("/health").json()
    assert (health["status"], health["pipeline_ready"]) == ("degraded", True)
    assert (health["replicas"], health["replicas_ready"]) == (2, 1)
    assert health["device"]["ids"] == [0, 4, 5]
