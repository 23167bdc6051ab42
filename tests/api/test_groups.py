"""The worker groups of all machines, and what each has on hand."""

from dataclasses import replace

from starlette.testclient import TestClient

from hidream_server.api.app import create_app
from hidream_server.engine.health import EngineState
from hidream_server.keys import KeyLimits, Scope
from tests.support import a_member, params, submit


def test_every_group_is_shown_with_its_machine_and_why_it_is_not_well(services, engine) -> None:
    lost = replace(engine.now, state=EngineState.DEGRADED, reason="A rank left.", warm=False)
    members = [
        a_member(engine.now),
        a_member(lost, id="there#1", machine="there", devices={"type": "npu", "ids": [4, 5]}),
    ]
    client = TestClient(create_app(replace(services, members=lambda: members)))
    here, there = client.get("/groups").json()["groups"]
    assert (here["machine"], here["ready"], here["reason"]) == ("here", True, "")
    assert (there["machine"], there["ready"], there["reason"]) == ("there", False, "A rank left.")
    assert (there["device_type"], there["device_ids"]) == ("npu", [4, 5])
    assert (here["layout"], here["status"]) == ("tp1", "healthy")


def test_whoever_asks_sees_its_own_tasks_and_how_many_others_there_are(
    services, engine, queue, keys
) -> None:
    key, text = keys.create("anna", Scope.GENERATE, KeyLimits(), 1.0)
    _, admin = keys.create("root", Scope.ADMIN, KeyLimits(), 1.0)
    [mine] = submit(queue, [params()], key.id)
    [other] = submit(queue, [params()], "other")
    member = a_member(engine.now, tasks=[mine.id, other.id, "one that was just deleted"])
    client = TestClient(create_app(replace(services, members=lambda: [member])))

    def tasks(bearer: str) -> tuple[list[str], int]:
        answer = client.get("/groups", headers={"Authorization": f"Bearer {bearer}"})
        [group] = answer.json()["groups"]
        return group["tasks"], group["active_tasks"]

    assert tasks(text) == ([mine.id], 3)
    assert tasks(admin) == ([mine.id, other.id], 3)


def test_where_there_is_no_group_there_is_none(services) -> None:
    client = TestClient(create_app(replace(services, members=list)))
    assert client.get("/groups").json() == {"groups": []}
