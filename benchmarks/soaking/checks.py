"""What must hold when a soak is over: promises kept, pictures right, nothing left behind."""

import re
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soaking.clients import POISON, Promise
from benchmarks.soaking.stage import Stage

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
#: Reasons with which a task may fail that is not at fault.
TRUE_REASONS = ("No space left on device", "The worker group went down 3 times")


def broken(promise: Promise, solo: dict[str, list[bytes]]) -> str | None:
    """Say how a promise was not kept, None if it was."""
    state, error = promise.end.get("status"), promise.end.get("error", "")
    if state == "completed":
        if promise.asked["prompt"] == POISON:
            return "poison made a picture"
        right = promise.pictures == solo[str(promise.asked)]
        return None if right else "a picture is not the one it is by itself"
    if state == "cancelled":
        return None if promise.cancelled else "cancelled, and nobody asked for it"
    if state == "failed":
        return None if any(reason in error for reason in TRUE_REASONS) else f"failed: {error}"
    return f"ended as {state}"


def changed_since(promises: Sequence[Promise], stage: Stage) -> list[str]:
    """Return the tasks that the server remembers otherwise than it once told."""
    client = stage.server.client
    now = {p.task_id: client.get(f"/status/{p.task_id}").json().get("status") for p in promises}
    return [p.task_id for p in promises if now[p.task_id] != p.end.get("status")]


def amiss(data: Path, temporary: Path, stage: Stage, promises: Sequence[Promise]) -> list[str]:
    """Return the files that belong to no task, and the pictures that have none."""
    client = stage.server.client
    owned = set()
    for promise in promises:
        urls: list[str] = client.get(f"/status/{promise.task_id}").json()["result_urls"]
        owned |= {url.rpartition("/")[2] for url in urls}
    pictures = {path.name for path in (data / "pictures").iterdir()}
    found = sorted(pictures ^ owned)
    for folder in (data / "checkpoints", data / "previews", temporary):
        found += [path.name for path in folder.iterdir()]
    # torch keeps what it compiled for the next time.
    return [name for name in found if "torchinductor" not in name]


def unmeasured(stage: Stage) -> list[str]:
    """Return the metrics that are documented and that a server lacks after all this."""
    documented = re.findall(r"^\| `(hidream_\w+)`", METRICS.read_text(), re.MULTILINE)
    families = text_string_to_metric_families(stage.server.client.get("/metrics").text)
    # The parser takes the end off a counter's name.
    found = {f.name + ("_total" if f.type == "counter" else "") for f in families if f.samples}
    return sorted(set(documented) - found)


def left_running(folder: Path) -> list[str]:
    """Return the processes of any life of the server that still run, but for the database's."""
    found = []
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        with suppress(psutil.Error):
            if process.info["name"] != "postgres" and str(folder) in str(process.environ()):
                found.append(f"{process.pid} {' '.join(process.info['cmdline'])[:80]}")
    return found


@dataclass
class Sample:
    """One process at one time."""

    at: float
    pid: int
    size_bytes: int
    files: int


@dataclass
class Watch:
    """Looks at the server process every second."""

    stage: Stage
    samples: list[Sample] = field(default_factory=list)

    def run(self, over: Event) -> None:
        while not over.wait(1.0):
            pid = self.stage.server.process.pid
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                sample = Sample(time.monotonic(), pid, process.memory_info().rss, process.num_fds())
                self.samples.append(sample)

    def longest_life(self, settled_s: float = 30.0) -> dict[str, Any]:
        """Return how memory and open files of the server that lived longest went."""
        lives: dict[int, list[Sample]] = {}
        for sample in self.samples:
            lives.setdefault(sample.pid, []).append(sample)
        life = max(lives.values(), key=lambda samples: samples[-1].at - samples[0].at)
        settled = [s for s in life if s.at - life[0].at > settled_s] or life
        seconds = [sample.at for sample in settled]
        slope = 0.0
        if len(settled) > 2:
            slope = statistics.linear_regression(seconds, [s.size_bytes for s in settled]).slope
        return {
            "lives": len(lives),
            "seconds": life[-1].at - life[0].at,
            "mib": settled[-1].size_bytes / 2**20,
            "mib_per_hour": slope * 3600 / 2**20,
            "files": (settled[0].files, max(s.files for s in settled), settled[-1].files),
        }
