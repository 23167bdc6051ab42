"""A worker group on two machines, which are one: pictures, the loss of the second, its return."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import BY_ITSELF
from tests.e2e.server import Server, descendants, free_port, gone

QUICK = {"resolution": "512x512", "num_inference_steps": 20, "seed": 5}
#: So long that the second machine is lost in its middle.
SLOW = {"resolution": "512x512", "num_inference_steps": 80, "seed": 6}

#: The smaller layout is left again once nobody is at work.
TOGETHER = ("-t", "cpu", "-d", "0", "--nnodes", "2")
FIRST = (*TOGETHER, "--layout", "cfg2", "--layout-tries", "1", "--layout-cool-down-s", "60")


@pytest.fixture
def machines(tmp_path: Path, new_server: Callable[..., Server]) -> Iterator[tuple[Server, Server]]:
    """The first machine, with a server, and the second; neither is started."""
    meeting = ("--rdzv-endpoint", f"127.0.0.1:{free_port()}")
    # Loopback is the network between them.
    network = {"GLOO_SOCKET_IFNAME": "lo"}
    first = new_server(*FIRST, *meeting, **network)
    second = Server(
        tmp_path / "second",
        [*TOGETHER, *meeting, "--node-rank", "1"],
        BY_ITSELF | network,
        verb="worker",
    )
    yield first, second
    second.clean_up()


def pixels(server: Server, task_id: str) -> np.ndarray:
    [data] = server.pictures(task_id)
    return np.asarray(Image.open(BytesIO(data))).astype(int)


def same_picture(machines: Server, server: Server, task_id: str, request: dict) -> bool:
    """It is the picture that one rank makes; rows of one step or of two are rounded differently."""
    difference = pixels(machines, task_id) - pixels(server, server.submit(**request))
    return bool(np.abs(difference).max() <= 1)


# Four groups are started one after the other.
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_group_on_two_machines_outlives_the_second(
    machines: tuple[Server, Server], server: Server
) -> None:
    first, second = machines
    second.start()
    first.start()
    first.wait_for("/readyz")
    assert first.client.get("/health").json()["layout"] == "cfg2"
    assert same_picture(first, server, first.submit(**QUICK), QUICK)

    slow = first.submit(**SLOW)
    first.wait_status(slow, "processing", progress=1)
    ranks = descendants(second.process.pid)
    second.kill()
    assert gone(ranks)
    second.start()
    assert first.wait_status(slow, "completed")["attempt"] == 2
    assert "Distributed inference failed, trying single CPU…" in first.console()
    assert same_picture(first, server, slow, SLOW)

    first.wait_health(status="healthy", layout="cfg2")
    assert same_picture(first, server, first.submit(**QUICK), QUICK)
    assert (first.stop(), second.stop()) == (0, 0)
