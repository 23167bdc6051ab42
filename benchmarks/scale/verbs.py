"""What each thing that is asked of the database costs by itself: time, CPU, statements, WAL."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection, event

from benchmarks.scale.filling import CLIENTS, TASK, filled
from benchmarks.scale.simulate import Costs
from benchmarks.scale.tables import Report, p10, p50, p99
from benchmarks.scale.watch import Watch
from hidream_server.engine.health import EngineHealth, EngineState
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.store.database import Database, open_postgresql
from hidream_server.store.groups import GroupStore, KnownGroup
from hidream_server.store.tasks import TaskStore
from tests.postgresql import Postgresql
from tests.support import new_queue

#: Seconds per step, by tokens and rows, as a group says them: of a usual size.
_PACE = {"step_s": {str(64 * n): {"1": 0.1, "2": 0.2} for n in range(1, 9)}, "beside_s": {}}
_HEALTH = EngineHealth(
    state=EngineState.HEALTHY, since=5.0, warm=True, layout="tp2", wanted_layout="tp2"
)


@dataclass(frozen=True)
class Cost:
    """Of one call: seconds of each, and of all together what the database spent."""

    seconds: list[float]
    cpu_ms: float
    statements: float
    wal_kib: float
    rows_read: float


class Bench:
    """One database with so many tasks and groups in it."""

    def __init__(self, server: Postgresql, queued: int, running: int, groups: int = 1) -> None:
        self._server = server
        self._url = filled(server, queued, running)
        self.database: Database = open_postgresql(self._url)
        self.queue: TaskQueue = new_queue(TaskStore(self.database))
        self._groups = GroupStore(self.database)
        self._groups.say([_group(number) for number in range(groups)])
        self._mine = self.queue.claim("mine", 1)[0]
        self._steps, self._claimed = 0, [self._mine]
        self._statements = 0
        event.listen(self.database.engine, "before_cursor_execute", self._count)

    @property
    def verbs(self) -> Mapping[str, Callable[[], object]]:
        """Return what is measured, each as often as it is called."""
        return {
            "submit": self._submit,
            "claim": self._claim,
            "claim in vain": lambda: self.queue.claim("mine", 1, due_before=-1e12),
            "beat": self._beat,
            "complete": self._complete,
            "look": lambda: self.queue.prospects.estimate(self.queue.draft([TASK], "client 1")),
            "status": lambda: self.queue.find([self._mine.id]),
            "events": lambda: self.queue.history.after(10**9, 500, settled=True),
            "membership": self._say,
        }

    def cost(self, verb: str, calls: int, warm_up: int = 3) -> Cost:
        """Call a verb so often and return what it cost."""
        call, seconds = self.verbs[verb], []
        for _ in range(warm_up):
            call()
        watch = Watch(self._server, self._url, sample=False)
        self._statements = 0
        with watch:
            for _ in range(calls):
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
        return Cost(
            seconds,
            1000 * watch.cpu_s / calls,
            self._statements / calls,
            watch.wal_bytes / 1024 / calls,
            watch.rows_read / calls,
        )

    def close(self) -> None:
        self.database.dispose()

    def _submit(self) -> None:
        self.queue.submit(self.queue.draft([TASK], f"client {self._steps % CLIENTS}"))

    def _claim(self) -> None:
        self._claimed += self.queue.claim("mine", 1)

    def _beat(self) -> None:
        self._steps += 1
        self.queue.beat({(self._mine.id, self._mine.attempt): self._steps})

    def _complete(self) -> None:
        task = self._claimed.pop() if len(self._claimed) > 1 else self._mine
        # With all steps since the last beat, which here are all there are.
        self.queue.complete((task.id, task.attempt), [f"{task.id}.png"], {"denoise": 1.0}, 10**6)

    def _say(self) -> None:
        self._groups.say([_group(0)])
        self._groups.seen(0.0)

    def _count(self, connection: Connection, *_: object) -> None:
        self._statements += 1


def _group(number: int) -> KnownGroup:
    return KnownGroup(
        id=f"{number:08x}-0000#0",
        machine=f"machine-{number}",
        version="1.0",
        model={"name": "HiDream-I1-Full", "image_tokens": 4096},
        devices={"type": "npu", "ids": [0], "dtype": "bfloat16"},
        health={name: getattr(_HEALTH, name) for name in _HEALTH.__slots__},
        pace=_PACE,
        tasks=["00000000-0000-0000-0000-000000000000"] * 6,
        joined_at=time.time() + number * 1e-3,
        seen_at=time.time(),
    )


def verbs(server: Postgresql, calls: int) -> list[Report]:
    """Measure everything on a queue of 100, with 100 tasks running on 100 groups."""
    report = Report(
        "One caller, 100 queued, 100 running, 100 groups",
        ("verb", "p50 ms", "p99 ms", "PostgreSQL ms of a core", "statements", "WAL KiB", "rows"),
    )
    bench = Bench(server, 100, 100, 100)
    for verb in bench.verbs:
        cost = bench.cost(verb, calls)
        report.add(
            verb, p50(cost.seconds), p99(cost.seconds), cost.cpu_ms, cost.statements,
            cost.wal_kib, cost.rows_read,
        )  # fmt: skip
    bench.close()
    return [report]


def costs(server: Postgresql, calls: int, cores: int) -> Costs:
    """Measure what is calculated with."""
    few, many = Bench(server, 100, 0, 1), Bench(server, 100, 1000, 1000)
    found = {verb: few.cost(verb, calls) for verb in few.verbs}
    more = {
        verb: max(0.0, many.cost(verb, calls).cpu_ms - found[verb].cpu_ms)
        for verb in ("membership", "claim in vain")
    }
    with few.database.engine.connect() as connection:
        most = int(connection.exec_driver_sql("SHOW max_connections").scalar_one())
    few.close()
    many.close()
    return Costs(
        cpu_ms={verb: cost.cpu_ms for verb, cost in found.items()},
        wal_kib={verb: cost.wal_kib for verb, cost in found.items()},
        flush_ms=flush_ms(server, calls),
        submit_ms=p10(found["submit"].seconds),
        member_us=more["membership"],
        running_us=more["claim in vain"],
        cores=cores,
        max_connections=most,
    )


def flush_ms(server: Postgresql, calls: int) -> float:
    """Return how long a commit takes that lets others know of something."""
    seconds = []
    with psycopg.connect(server.new_database(), autocommit=False) as connection:
        connection.execute("CREATE TABLE t (n int)")
        for number in range(calls):
            connection.execute("INSERT INTO t VALUES (%s)", [number])
            connection.execute("SELECT pg_notify('hidream', 'moved')")
            start = time.perf_counter()
            connection.commit()
            seconds.append(time.perf_counter() - start)
    return p10(seconds)
