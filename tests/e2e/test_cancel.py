"""A running task that is cancelled leaves all ranks of its group to the next one."""

from collections.abc import Callable

from tests.e2e.server import Server
from tests.e2e.test_group_faults import REQUEST, SEEDS, TWO, check


def test_ranks_leave_a_cancelled_task_together(
    server: Server, new_server: Callable[..., Server]
) -> None:
    group = new_server(*TWO)
    group.start()
    group.wait_for("/readyz")
    unwanted = group.submit(resolution="512x512", num_inference_steps=200, num_images_per_prompt=8)
    wanted = [group.submit(**REQUEST, seed=seed) for seed in SEEDS]
    group.wait_status(unwanted, "processing", progress=1)
    cancelled = group.client.post(f"/tasks/{unwanted}/cancel").json()
    assert cancelled["status"] == "cancelled"
    check(group, server, wanted)
    assert group.status(unwanted)["status"] == "cancelled"
    assert group.status(unwanted)["progress"] < 50
    assert {group.status(task_id)["attempt"] for task_id in wanted} == {1}
