"""How a service is, in lines that can be read and copied from."""

import json
from typing import Any

import pytest

from hidream_server.cli.status import show_status

HEALTH = {
    "model": {"name": "HiDream-I1-Full"},
    "status": "degraded",
    "reason": "rank 3 left",
    "pipeline_ready": True,
    "replicas": 2,
    "replicas_ready": 1,
    "queue_length": 4,
    "active_tasks": 3,
}
WELL = {
    "machine": "one",
    "model": "HiDream-I1-Full",
    "device_type": "npu",
    "device_ids": [0, 1, 2, 3],
    "layout": "tp4",
    "wanted_layout": "tp4",
    "status": "healthy",
    "reason": "",
    "active_tasks": 3,
    "tasks": ["0b2c", "1d3e"],
}
WORSE = WELL | {
    "machine": "two",
    "layout": "tp2",
    "status": "degraded",
    "reason": "rank 3 left",
    "active_tasks": 0,
    "tasks": [],
}


class Service:
    """A client of a service that is like this."""

    def __init__(self, health: dict[str, Any], *groups: dict[str, Any]) -> None:
        self.health = lambda: health
        self.groups = lambda: list(groups)


def test_every_group_has_a_line_and_so_has_every_task_one_may_see(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show_status(Service(HEALTH, WELL, WORSE), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "HiDream-I1-Full: degraded (rank 3 left), 1 of 2 worker groups ready, 4 queued, 3 running",
        "one: npu 0,1,2,3, tp4, healthy, HiDream-I1-Full",
        "  0b2c",
        "  1d3e",
        "  1 task(s) of others",
        "two: npu 0,1,2,3, tp2 instead of tp4, degraded (rank 3 left), HiDream-I1-Full",
    ]


def test_a_service_that_is_not_ready_is_told_by_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not show_status(Service(HEALTH | {"pipeline_ready": False}), as_json=True)
    assert json.loads(capsys.readouterr().out)["groups"] == []
