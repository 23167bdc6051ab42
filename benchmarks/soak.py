"""Many clients on a server that everything happens to; then every promise is looked at.

    python -m benchmarks.soak --minutes 5

kills -9 and stops ranks, launcher and server, crashes PostgreSQL, fills the disk. At the end every
accepted task must be completed with the pictures it has by itself, failed with a true reason, or
cancelled by its owner; and nothing may be left behind. Exit code 1, and why, if that is not so.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# As in the tests: one thread for each process, which two cores have to share.
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

from benchmarks.soaking.chaos import Chaos
from benchmarks.soaking.checks import (
    Watch,
    amiss,
    broken,
    changed_since,
    left_running,
    unmeasured,
)
from benchmarks.soaking.clients import POISON, Client, Notes, catalogue
from benchmarks.soaking.stage import Stage
from tests.e2e.server import Server, descendants, gone
from tests.postgresql import Postgresql

#: For this part of the time at the end the server itself is let live.
SPARED = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        troubles = soak(folder, arguments, stack)
    for trouble in troubles:
        print(f"TROUBLE: {trouble}")
    sys.exit(bool(troubles))


def soak(folder: Path, arguments: argparse.Namespace, stack: ExitStack) -> list[str]:
    """Return all that was not as promised."""
    wares = catalogue(20, arguments.seed)
    solo = by_themselves(folder / "solo", wares)
    database = None
    if arguments.database == "postgresql":
        database = stack.enter_context(Postgresql())
    temporary = folder / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    stage = Stage(folder, database)
    with stage.on():
        notes, chaos, watch = storm(stage, wares, arguments)
        stage.settle()
        troubles = notes.troubles + [
            f"task {promise.task_id}: {why}"
            for promise in notes.promises
            if (why := broken(promise, solo))
        ]
        troubles += [f"task {task_id} changed" for task_id in changed_since(notes.promises, stage)]
        troubles += [f"not measured: {name}" for name in unmeasured(stage)]
        family = descendants(stage.server.process.pid)
        if stage.finish() != 0 or not gone(family):
            troubles.append("the server did not end as it should")
        # What a killed life left is swept at the next start.
        stage.server.start()
        stage.server.wait_for("/readyz")
        data = stage.disk.folder / "data"
        deadline = time.monotonic() + 30
        while found := amiss(data, temporary, stage, notes.promises):
            if time.monotonic() > deadline:
                troubles += [f"left behind, or missing: {name}" for name in found]
                break
            time.sleep(1)
        stage.server.stop()
        troubles += [f"still running: {it}" for it in left_running(stage.disk.folder)]
        # Without its database it does not start: whoever looks after it tries again.
        troubles += [
            f"the server ended with {code}: {last}"
            for code, last in stage.exits
            if code and "does not answer" not in last
        ]
    report(notes, chaos, watch, arguments)
    return troubles


def by_themselves(folder: Path, wares: list[dict[str, Any]]) -> dict[str, list[bytes]]:
    """Return the pictures of each request on a server that does nothing else."""
    server = Server(folder, environment={"HIDREAM_MAX_ROWS": "1"})
    server.start()
    try:
        server.wait_for("/readyz")
        return {str(asked): server.pictures(server.submit(**asked)) for asked in wares}
    finally:
        server.stop()
        server.clean_up()


def storm(
    stage: Stage, wares: list[dict[str, Any]], arguments: argparse.Namespace
) -> tuple[Notes, Chaos, Watch]:
    """Let clients and chaos loose for as long as was asked, and the clients come to their ends."""
    seconds = 60 * arguments.minutes
    until = time.monotonic() + seconds
    spared_from = until - SPARED * seconds
    notes, over = Notes(), threading.Event()
    chaos, watch = Chaos(stage, arguments.seed), Watch(stage)
    address = str(stage.server.client.base_url)
    clients = [
        threading.Thread(target=Client(n, address, wares, notes).run, args=(until, over))
        for n in range(arguments.clients)
    ]
    watching = threading.Thread(target=watch.run, args=(over,))
    for thread in (*clients, watching):
        thread.start()
    try:
        chaos.run(until, spare_server=lambda: time.monotonic() > spared_from)
        stage.settle()
        for thread in clients:
            thread.join()
    finally:
        over.set()
        watching.join()
    return notes, chaos, watch


def report(notes: Notes, chaos: Chaos, watch: Watch, arguments: argparse.Namespace) -> None:
    """Print the table of a soak."""
    ends = Counter(promise.end.get("status") for promise in notes.promises)
    reasons = Counter(
        ("poison" if p.asked["prompt"] == POISON else "others", p.end["error"][:60])
        for p in notes.promises
        if p.end.get("error")
    )
    attempts = Counter(promise.end.get("attempt") for promise in notes.promises)
    pictures = sum(len(promise.pictures) for promise in notes.promises)
    life = watch.longest_life()
    rows = [
        ("minutes, database", f"{arguments.minutes:g}, {arguments.database}"),
        ("load of the machine", f"{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores"),
        *((name, str(count)) for name, count in sorted(chaos.done.items())),
        ("tasks accepted", str(len(notes.promises))),
        *((f"tasks {state}", str(count)) for state, count in sorted(ends.items())),
        *((f"failed, {who}: {why}…", str(count)) for (who, why), count in reasons.items()),
        ("pictures, all equal to their solo runs unless said below", str(pictures)),
        ("tasks by attempts", ", ".join(f"{a}: {n}" for a, n in sorted(attempts.items()))),
        ("answers by status (0: none)", str(dict(sorted(notes.answers.items())))),
        ("submissions sent twice", str(notes.repeated)),
        ("lives of the server", str(life["lives"])),
        ("longest life, seconds", f"{life['seconds']:.0f}"),
        ("its memory at the end, MiB", f"{life['mib']:.1f}"),
        ("its slope after 30 s, MiB an hour", f"{life['mib_per_hour']:+.1f}"),
        ("its open files: first, most, last", str(life["files"])),
    ]
    print("| what | how much |\n| --- | --- |")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
