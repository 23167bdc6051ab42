"""What the server adds, with one client and with eight: the demo model on the CPU, one thread.

A server of the full size would need 62 GB of files.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks import overhead, throughput
from benchmarks.full_size.bench import Bench
from benchmarks.full_size.report import Report
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from tests.e2e.server import Server
from tests.reference import stock_pipeline

_SIDE = 512
#: Pairs, steps of a picture, and tasks of each client.
_MUCH, _LITTLE = (3, 16, 2), (1, 2, 1)


def measure_server(bench: Bench, report: Report) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), ("-t", "cpu"))
        server.start()
        try:
            server.wait_for("/readyz")
            measure_clients(server, report, *(_MUCH if bench.size.name == "full" else _LITTLE))
        finally:
            server.stop()
            server.clean_up()


def measure_clients(server: Server, report: Report, pairs: int, steps: int, each: int) -> None:
    """Report on a server with the demo model."""
    with _one_thread():
        seconds = overhead.compare(server, pairs, _SIDE, steps)
        name = f"one client, {steps} guided steps"
        ratios = [served / bare for bare, served in seconds]
        report.add("server", name, "over a bare loop", "", ratios)
        added = [1000 * (served - bare) for bare, served in seconds]
        report.add("server", name, "added to a picture", "ms", added)
        kind = throughput.Kind(f"{_SIDE}x{_SIDE}", 1.0, _SIDE, 0.0, steps)
        pipe = stock_pipeline(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
        found = throughput.compare(server, pipe, kind, pairs, each)
        name = f"{throughput.CLIENTS} clients, {steps} steps"
        report.add("server", name, "throughput over a bare loop", "", found.ratios)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As the server's ranks have in these comparisons; more threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
