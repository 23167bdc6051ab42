"""Two groups of one device each: one paints on while the other is lost."""

import os
import signal
from collections.abc import Callable

from tests.e2e.server import Server
from tests.e2e.test_group_faults import check, submit_all


def test_a_replica_that_is_lost_costs_no_task_and_no_service(
    server: Server, new_server: Callable[..., Server]
) -> None:
    victim = new_server("-t", "cpu", "-c", "2", "--replicas", "2")
    victim.start()
    victim.wait_for("/livez")
    victim.wait_health(replicas_ready=2)
    tasks = submit_all(victim)
    for task_id in tasks[:2]:
        victim.wait_status(task_id, "processing", progress=10)
    os.kill(victim.ranks()[0], signal.SIGKILL)
    victim.wait_health(status="degraded", replicas_ready=1)
    assert victim.client.get("/readyz").status_code == 200
    check(victim, server, tasks)
    victim.wait_health(status="healthy", replicas_ready=2)
