"""What writers lose to servers whose clients follow what happens: each reading waits for them."""

import asyncio
import contextlib
import multiprocessing
import statistics
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier, Event

from benchmarks.scale.claimers import Claimers
from benchmarks.scale.filling import filled
from benchmarks.scale.tables import Report, p50, p99
from benchmarks.scale.watch import Watch
from hidream_server.api.feed import Feed
from hidream_server.store.database import open_postgresql
from hidream_server.store.hints import Hints
from hidream_server.store.tasks import TaskStore
from tests.postgresql import Postgresql
from tests.support import new_queue


def streams(
    server: Postgresql, servers: int, groups: int, rounds: int, seconds: float, beats: int
) -> list[Report]:
    """Measure groups that only ask, with nobody who follows and with servers that do."""
    report = Report(
        f"{groups} groups that only ask, and {servers} servers with a stream",
        ("streams", "tasks/min", "from", "to", "beat p50 / p99 ms", "entries/s", "waits"),
    )
    arms = {"none": 0, f"{servers} servers": servers}
    found: dict[str, list[tuple[float, list[float], float, Watch]]] = {arm: [] for arm in arms}
    for turn in range(rounds):
        for arm in list(arms) if turn % 2 == 0 else list(reversed(arms)):
            watch = Watch(server, filled(server, 100))
            claimers = Claimers(watch.url, groups, beats, seconds)
            with _followers(watch.url, arms[arm]) as heard, watch:
                verbs, _ = claimers.run()
            rate = 60 * len(verbs["complete"]) / seconds
            # Each has counted to the end.
            found[arm].append((rate, verbs["beat"], sum(heard) / seconds, watch))
    for arm, runs in found.items():
        rates = [rate for rate, _, _, _ in runs]
        beats_s = [each for _, every, _, _ in runs for each in every]
        total = Watch(server, "")
        for _, _, _, watch in runs:
            total.waits += watch.waits
        report.add(
            arm, statistics.median(rates), min(rates), max(rates),
            f"{p50(beats_s):.1f} / {p99(beats_s):.1f}",
            statistics.mean(each for _, _, each, _ in runs), total.mostly(3),
        )  # fmt: skip
    return [report]


@contextlib.contextmanager
def _followers(url: str, count: int) -> Iterator[list[int]]:
    """Follow from processes of their own; then say how many entries each has heard."""
    spawn = multiprocessing.get_context("spawn")
    ready, over = spawn.Barrier(count + 1), spawn.Event()
    results: SimpleQueue[int] = spawn.SimpleQueue()
    processes = [
        spawn.Process(target=_follow, args=(url, ready, over, results), daemon=True)
        for _ in range(count)
    ]
    for process in processes:
        process.start()
    ready.wait(120)
    heard: list[int] = []
    try:
        yield heard
    finally:
        over.set()
        heard += [results.get() for _ in processes]
        for process in processes:
            process.join(60)


def _follow(url: str, ready: Barrier, over: Event, results: "SimpleQueue[int]") -> None:
    database = open_postgresql(url)
    queue = new_queue(TaskStore(database))
    hints = Hints(url, queue.hear)
    hints.listening.wait(60)
    results.put(asyncio.run(_count(Feed(queue.history), ready, over)))
    hints.close()
    database.dispose()


async def _count(feed: Feed, ready: Barrier, over: Event) -> int:
    heard = 0

    async def listen() -> None:
        nonlocal heard
        async for _ in feed.follow():
            heard += 1

    listening = asyncio.create_task(listen())
    await asyncio.to_thread(ready.wait, 120)
    await asyncio.to_thread(over.wait)
    listening.cancel()
    await asyncio.wait((listening,))
    return heard
