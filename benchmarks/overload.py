"""Many more clients than there is room for: what they are answered, and how fast.

    python -m benchmarks.overload --seconds 60

2,000 keep-alive clients ask for a status every five seconds, 100 submissions a second meet a
bounded queue, and /livez is timed throughout. Exit code 1 if any answer but 200 and 429 was given.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

# As in the tests: one thread for each process, which two cores have to share.
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import psutil

from tests.e2e.server import Server

QUEUE_LENGTH = 100
POLL_S = 5.0
PROBE_S = 0.1
TASK = {"prompt": "a red circle", "resolution": "512x512", "num_inference_steps": 20}


class Connection:
    """One keep-alive connection; as little of HTTP/1.1 as it takes, to be cheap for the machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> "Connection":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Return status and body of an answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        size = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        return int(lines[0].split()[1]), await self._reader.readexactly(size)


class Load:
    """Everything that is asked, and what came of it."""

    def __init__(self, server: Server, clients: int, rate: float, seconds: float) -> None:
        self._server, self._clients, self._rate = server, clients, rate
        self._until = time.monotonic() + seconds
        self.task_ids: list[str] = []
        self.answers: dict[str, Counter[int]] = {
            what: Counter() for what in ("status", "submit", "livez")
        }
        self.seconds: dict[str, list[float]] = {"status": [], "submit": [], "livez": []}
        self.sizes_bytes: list[int] = []
        #: Seconds of a core that the server and this program took.
        self.busy_s = (0.0, 0.0)

    async def run(self) -> None:
        server = psutil.Process(self._server.process.pid)
        before = _busy_s(server), _busy_s(psutil.Process())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._probe())
            group.create_task(self._watch())
            for number in range(20):
                group.create_task(self._submit(number / 20))
            while not self.task_ids:
                await asyncio.sleep(0.01)
            for number in range(self._clients):
                group.create_task(self._poll(number))
        self.busy_s = _busy_s(server) - before[0], _busy_s(psutil.Process()) - before[1]

    async def _timed(self, what: str, wire: Connection, *asked: Any) -> tuple[int, bytes]:
        start = time.perf_counter()
        status, body = await wire.ask(*asked)
        self.seconds[what].append(time.perf_counter() - start)
        self.answers[what][status] += 1
        return status, body

    async def _poll(self, number: int) -> None:
        await asyncio.sleep(POLL_S * number / self._clients)
        async with Connection(self._server.port) as wire:
            while time.monotonic() < self._until:
                due = time.monotonic() + POLL_S
                path = f"/status/{self.task_ids[number % len(self.task_ids)]}"
                await self._timed("status", wire, "GET", path)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _submit(self, phase: float) -> None:
        """One of twenty that together submit at the rate, whatever they are answered."""
        every = 20 / self._rate
        due = time.monotonic() + phase * every
        async with Connection(self._server.port) as wire:
            while time.monotonic() < self._until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                due += every
                body = json.dumps(TASK).encode()
                status, answer = await self._timed("submit", wire, "POST", "/submit", body)
                if status == 200:
                    self.task_ids.append(json.loads(answer)["task_id"])

    async def _probe(self) -> None:
        async with Connection(self._server.port) as wire:
            while time.monotonic() < self._until:
                await self._timed("livez", wire, "GET", "/livez")
                await asyncio.sleep(PROBE_S)

    async def _watch(self) -> None:
        while time.monotonic() < self._until:
            self.sizes_bytes.append(psutil.Process(self._server.process.pid).memory_info().rss)
            await asyncio.sleep(1.0)


def _busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100.0, help="submissions a second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overload-") as folder:
        server = Server(Path(folder), ["--max-queue-length", str(QUEUE_LENGTH)])
        server.start()
        try:
            server.wait_for("/readyz")
            load = Load(server, arguments.clients, arguments.rate, arguments.seconds)
            asyncio.run(load.run())
        finally:
            server.stop()
            server.clean_up()
    report(load, arguments)
    wrong = {status for counter in load.answers.values() for status in counter} - {200, 429}
    sys.exit(bool(wrong))


def report(load: Load, arguments: argparse.Namespace) -> None:
    """Print the table."""
    print(f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| what | answers | p50 ms | p99 ms | most ms |\n| --- | --- | --- | --- | --- |")
    for what, seconds in load.seconds.items():
        ms = [1000 * s for s in seconds]
        p99 = statistics.quantiles(ms, n=100)[98]
        answers = dict(load.answers[what])
        print(f"| {what} | {answers} | {statistics.median(ms):.1f} | {p99:.1f} | {max(ms):.1f} |")
    mib = [size / 2**20 for size in load.sizes_bytes]
    print(
        f"\nmemory of the server, MiB: first {mib[0]:.0f}, most {max(mib):.0f}, last {mib[-1]:.0f}"
    )
    ours, load_s = load.busy_s
    print(f"seconds of a core: {ours:.1f} the server, {load_s:.1f} its clients")
    print(f"asked for: {arguments.clients} clients, {arguments.rate:g} submissions a second")


if __name__ == "__main__":
    main()
