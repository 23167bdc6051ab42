"""The transformer's weights from local files: as the engine reads them, and tensor by tensor."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.full_size.bench import Bench
from benchmarks.full_size.report import Report
from benchmarks.full_size.sizes import Size
from benchmarks.full_size.weights import Weights, empty_transformer
from hidream_server.model.copying import Copy, copy_all
from hidream_server.model.weight_file import open_weights
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.place import alone

#: As the published transformer has.
_SHARDS = 7
#: In each all ways are gone, in every other one backwards.
_ROUNDS = 2
_SPARE_BYTES = 2**30
_NETWORK, _ALL, _ONE_BY_ONE = "a network, by the engine", "its reading alone", "tensor by tensor"


def measure_loading(bench: Bench, report: Report) -> None:
    """Write random weights to a temporary folder, and read them: from the page cache, if it holds.

    A network is made in new memory on the device; what is read alone goes where weights are.
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
        _compare(bench, report, folder, files, total)


def _compare(bench: Bench, report: Report, folder: Path, files: list[Path], total: int) -> None:
    where = (bench.device.torch_device, bench.device.dtype)
    ways: dict[str, Callable[[], object]] = {
        _NETWORK: lambda: load_network(folder, files, alone(), *where, bench.mixture),
        _ALL: lambda: _read_all(bench.weights, files, bench.device.torch_device),
        _ONE_BY_ONE: lambda: _read_one_by_one(bench.weights, files),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(_ROUNDS):
        for name in reversed(ways) if number % 2 else ways:
            seconds[name].append(_time(bench, ways[name]))
            bench.clean_up()
    for name, samples in seconds.items():
        report.add("load", name, "time", "s", samples)
        report.add("load", name, "speed", "GB/s", [total / each / 1e9 for each in samples])
    pairs = zip(seconds[_ONE_BY_ONE], seconds[_ALL], strict=True)
    report.add("load", _ALL, "times as fast", "", [slow / fast for slow, fast in pairs])


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


def _read_all(weights: Weights, files: list[Path], device: torch.device) -> None:
    """Read as the engine does."""
    for path in files:
        with open_weights(path) as tensors:
            whole = [tuple(slice(0, length) for length in tensor.shape) for tensor in tensors]
            targets = [weights[tensor.name].data for tensor in tensors]
            copy_all(map(Copy, tensors, whole, targets), device)


@torch.inference_mode()
def _read_one_by_one(weights: Weights, files: list[Path]) -> None:
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                weights[name].copy_(file.get_tensor(name))


def _time(bench: Bench, load: Callable[[], object]) -> float:
    bench.device.synchronize()
    start = time.perf_counter()
    load()
    bench.device.synchronize()
    return time.perf_counter() - start
