"""Deploys what a cluster file says, tells how it is, and takes it down again."""

import contextlib
import logging
import re
import socket
import time
from collections.abc import Collection, Iterator

import ray
import typer
from ray import serve
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

from hidream_server.cli.cluster.application import new_application
from hidream_server.cli.cluster.config import ClusterFile
from hidream_server.errors import ClusterError

#: Before the name of each of our applications, which may not be alone in a cluster.
_PREFIX = "hidream-"
_POLL_S = 1.0
#: Before the sentence of each of our errors, in a traceback.
_ERROR_NAME = re.compile(r"^hidream_server\.errors\.\w+: ")
_CONNECT_S = 10.0


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Speak to a Ray cluster; raise ClusterError if there is none."""
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():
            # Ray itself would go on trying for many minutes.
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ClusterError(f"No Ray cluster answers at {address!r}: {said}") from error
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def deploy(file: ClusterFile) -> None:
    """Have the cluster serve what the file says, and nothing more of ours; wait until it does."""
    # Nobody calls a replica, by HTTP or otherwise.
    serve.start(proxy_location="Disabled")
    wanted = {_PREFIX + target.name: target for target in file.deployments}
    for name in _ours().keys() - wanted.keys():
        serve.delete(name)
        typer.echo(f"{name.removeprefix(_PREFIX)}: removed")
    serve.run_many(
        [
            serve.RunTarget(new_application(file, target), name=name, route_prefix=None)
            for name, target in wanted.items()
        ],
        wait_for_applications_running=False,
    )
    _wait_until_running(wanted)


def status() -> dict[str, ApplicationStatusOverview]:
    """Return how each deployment is, by its name."""
    return {name.removeprefix(_PREFIX): state for name, state in _ours().items()}


def take_down() -> list[str]:
    """Stop all deployments, which drain; return their names."""
    names = list(_ours())
    for name in names:
        serve.delete(name)
    return [name.removeprefix(_PREFIX) for name in names]


def _ours() -> dict[str, ApplicationStatusOverview]:
    found = serve.status().applications
    return {name: state for name, state in found.items() if name.startswith(_PREFIX)}


def _wait_until_running(names: Collection[str]) -> None:
    """Say of each when it runs; raise ClusterError when one cannot be deployed."""
    waiting = set(names)
    while waiting:
        for name, state in _ours().items():
            if name in waiting and runs(state):
                waiting.discard(name)
                typer.echo(f"{name.removeprefix(_PREFIX)}: running")
            elif name in waiting and state.status is ApplicationStatus.DEPLOY_FAILED:
                raise ClusterError(f"{name.removeprefix(_PREFIX)}: {reason(state)}")
        time.sleep(_POLL_S)


def reason(state: ApplicationStatusOverview) -> str:
    """Return why a deployment is not as it should be, as the last line of what Serve says."""
    said = [state.message, *(each.message for each in state.deployments.values())]
    lines = [line.strip() for text in said for line in text.splitlines() if line.strip()]
    return _ERROR_NAME.sub("", lines[-1]) if lines else ""


def runs(state: ApplicationStatusOverview) -> bool:
    return state.status is ApplicationStatus.RUNNING


def summary(state: ApplicationStatusOverview) -> str:
    """Return in one line how a deployment is."""
    counts = [each.replica_states for each in state.deployments.values()]
    replicas = [f"{n} {what.lower()}" for states in counts for what, n in states.items() if n]
    why = "" if runs(state) else reason(state)
    return "; ".join(filter(None, (state.status.lower(), ", ".join(replicas), why)))
