"""The transformer's weights from local files: as the engine reads them, and with many threads."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.full_size.bench import Bench
from benchmarks.full_size.report import Report
from benchmarks.full_size.sizes import Size
from benchmarks.full_size.weights import Weights, empty_transformer
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.place import alone

#: As the published transformer has.
_SHARDS = 7
_THREADS = 8
_SPARE_BYTES = 2**30


def measure_loading(bench: Bench, report: Report) -> None:
    """Write random weights to a temporary folder, and read them: from the page cache, if it holds.

    One way reads into new memory on the device, the other into what is there.
    """
    names = list(empty_transformer(bench.size.transformer).state_dict())
    total = sum(bench.weights[name].nbytes for name in names)
    with tempfile.TemporaryDirectory(prefix="full-size-") as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < total + _SPARE_BYTES:
            why = f"{total / 1e9:.1f} GB do not fit into {folder.parent}, {free / 1e9:.1f} are free"
            report.leave_out("load", f"{why} (TMPDIR names another folder)")
            return
        start = time.perf_counter()
        files = _write(bench.size, bench.weights, names, folder)
        report.add("load", "written", "time", "s", time.perf_counter() - start)
        where = (bench.device.torch_device, bench.device.dtype)

        def by_engine() -> object:
            return load_network(folder, files, alone(), *where, bench.mixture)

        _report(bench, report, "by the engine, one thread", by_engine, total)
        bench.clean_up()
        many = f"{_THREADS} threads"
        _report(bench, report, many, lambda: _read(bench.weights, files), total)


def _write(size: Size, weights: Weights, names: list[str], folder: Path) -> list[Path]:
    """Write a transformer's directory; return its shards, of about the same size."""
    (folder / "config.json").write_text(
        json.dumps({"_class_name": "HiDreamImageTransformer2DModel", **size.transformer})
    )
    files = []
    for number in range(_SHARDS):
        shard = {name: weights[name].cpu().contiguous() for name in names[number::_SHARDS]}
        files.append(folder / f"shard-{number}.safetensors")
        save_file(shard, files[-1])
    return files


@torch.inference_mode()
def _read(weights: Weights, files: list[Path]) -> None:
    def read(path: Path) -> None:
        with torch.inference_mode(), safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                weights[name].copy_(file.get_tensor(name))

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(read, files))


def _report(
    bench: Bench, report: Report, name: str, load: Callable[[], object], total: int
) -> None:
    bench.device.synchronize()
    start = time.perf_counter()
    load()
    bench.device.synchronize()
    seconds = time.perf_counter() - start
    report.add("load", name, "time", "s", seconds)
    report.add("load", name, "speed", "GB/s", total / seconds / 1e9)
