"""kill -9 of anything, at any time: the task is completed with the picture it would have had."""

import os
import signal
from collections.abc import Callable
from functools import cache

import pytest

from tests.e2e.server import PATIENCE_S, Server, descendants, gone

REQUEST = {"resolution": "512x512", "num_inference_steps": 40, "seed": 11}


@cache
def solo(server: Server) -> list[bytes]:
    """The pictures of the request on a server that nothing happens to."""
    return server.pictures(server.submit(**REQUEST))


#: A server like this is used by most of the tests: each leaves it warm.
OFTEN_SAVED = ("--checkpoint-s", "0.1")


@pytest.mark.parametrize("who", ["rank", "launcher"])
def test_a_killed_rank_or_launcher_costs_no_task_and_no_picture(
    server: Server, warm_server: Callable[..., Server], who: str
) -> None:
    victim = warm_server(*OFTEN_SAVED)
    task_id = victim.submit(**REQUEST)
    waiting = victim.submit(**REQUEST)
    victim.wait_status(task_id, "processing", progress=20)
    [rank], [launcher] = victim.ranks(), victim.launchers()
    os.kill(rank if who == "rank" else launcher, signal.SIGKILL)
    assert victim.pictures(task_id) == solo(server)
    assert gone([rank, launcher])
    [url] = victim.status(task_id)["result_urls"]
    assert url.endswith(f"{task_id}_2_0.png")
    assert victim.pictures(waiting) == solo(server)
    assert "Worker group lost" in victim.console()
    assert "goes on after step" in victim.console()
    assert victim.client.get("/health").json()["status"] == "healthy"


def test_a_killed_server_takes_its_ranks_along_and_its_tasks_up_again(
    server: Server, warm_server: Callable[..., Server]
) -> None:
    victim = warm_server(*OFTEN_SAVED)
    finished = victim.submit(resolution="256x256", num_inference_steps=2, seed=1)
    before = victim.pictures(finished)
    task_id = victim.submit(**REQUEST)
    waiting = victim.submit(**REQUEST)
    victim.wait_status(task_id, "processing", progress=20)
    family = descendants(victim.process.pid)
    assert len(family) >= 3
    victim.kill()
    assert gone(family)

    victim.start()
    victim.wait_for("/livez")
    assert victim.status(task_id)["seeds"] == [11]
    assert victim.pictures(task_id) == solo(server)
    assert victim.pictures(waiting) == solo(server)
    assert victim.pictures(finished) == before


def sigterm(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)


def ctrl_c(server: Server) -> None:
    """What a terminal does: SIGINT to every process of the foreground group."""
    os.killpg(server.process.pid, signal.SIGINT)


@pytest.mark.parametrize("end", [sigterm, ctrl_c])
def test_a_signal_during_a_task_lets_it_finish(
    warm_server: Callable[..., Server], end: Callable[[Server], None]
) -> None:
    leaving = warm_server(*OFTEN_SAVED)
    running = leaving.submit(**REQUEST)
    waiting = leaving.submit(**REQUEST)
    leaving.wait_status(running, "processing", progress=20)
    family = descendants(leaving.process.pid)
    end(leaving)
    assert leaving.process.wait(PATIENCE_S) == 0
    assert gone(family)
    assert "task(s) of the last run" not in leaving.console()

    leaving.start()
    leaving.wait_for("/livez")
    assert leaving.status(running)["status"] == "completed"
    assert len(leaving.pictures(waiting)) == 1


def test_a_stopped_rank_is_found_by_the_step_deadline(
    server: Server, warm_server: Callable[..., Server]
) -> None:
    victim = warm_server("--step-timeout-s", "8")
    task_id = victim.submit(**REQUEST)
    victim.wait_status(task_id, "processing", progress=20)
    [rank] = victim.ranks()
    os.kill(rank, signal.SIGSTOP)
    assert victim.pictures(task_id) == solo(server)
    assert gone([rank])


def test_a_killed_server_takes_along_even_a_rank_that_stands_still(
    warm_server: Callable[..., Server],
) -> None:
    victim = warm_server("--step-timeout-s", "8")
    [rank] = victim.ranks()
    family = descendants(victim.process.pid)
    os.kill(rank, signal.SIGSTOP)
    victim.kill()
    assert gone(family)


def test_a_drain_hands_back_what_its_bound_cuts_short(new_server: Callable[..., Server]) -> None:
    leaving = new_server("--drain-timeout-s", "0")
    leaving.start()
    leaving.wait_for("/readyz")
    running = leaving.submit(**(REQUEST | {"num_inference_steps": 200}))
    leaving.wait_status(running, "processing", progress=5)
    assert leaving.stop() == 0
    assert "handed back" in leaving.console()
    leaving.start()
    leaving.wait_for("/livez")
    assert leaving.status(running)["status"] in ("queued", "processing")
    leaving.kill()
