"""The command: chooses device and parts, runs them while there is time, shows what was found."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1")

from dataclasses import replace

import torch
from rich.console import Console
from transformers.utils import logging

from benchmarks.full_size import machine
from benchmarks.full_size.bench import Bench
from benchmarks.full_size.machine import UnusableDeviceError
from benchmarks.full_size.parts import PARTS, Part
from benchmarks.full_size.report import Report
from benchmarks.full_size.sizes import FULL, SIZES
from benchmarks.full_size.timing import Budget
from hidream_server.devices.choice import KINDS
from hidream_server.worker.device import open_device
from hidream_server.worker.outbox import first_line

#: Of the tables, in characters, also where they are read from a file.
_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0, or 1 if something failed, or 2 if nothing can be measured here."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    logging.disable_progress_bar()
    budget = Budget(options.budget_s)
    try:
        bench = _open(options, budget)
    except UnusableDeviceError as error:
        print(error, file=sys.stderr)
        return 2
    kind = KINDS[bench.device.torch_device.type]
    asked = {"size": options.size, "rounds": options.rounds, "budget (s)": options.budget_s}
    report = Report(machine.about(bench.device, kind) | asked)
    for part in [part for name, part in PARTS.items() if name in (options.part or PARTS)]:
        if part.lossy and not options.part:
            report.leave_out(part.name, f"it is lossy; --part {part.name} measures it")
        else:
            _measure(part, bench, report)
        if options.json:
            report.write(options.json)
    report.show(Console(width=_WIDTH, highlight=False))
    return 1 if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parts = "\n".join(f"  {part.name:10} {part.help}" for part in PARTS.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_size",
        description="HiDream-I1 at its full size on one card, with random weights.",
        epilog=f"parts, most important first:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=SIZES, default=FULL.name, help="small runs on a CPU")
    parser.add_argument("--part", choices=PARTS, action="append", metavar="NAME", help="only this")
    parser.add_argument("--budget-s", type=float, default=480.0, help="no part is begun after that")
    parser.add_argument("--rounds", type=int, default=3, help="of all ways in turn")
    parser.add_argument("--device", choices=KINDS, help="default: npu, cuda, cpu, what is there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    return parser


def _open(options: argparse.Namespace, budget: Budget) -> Bench:
    """Return what is to be measured; raise UnusableDeviceError if this device is too small."""
    kind, size = machine.choose_kind(options.device), SIZES[options.size]
    if size is FULL and not kind.is_accelerator:
        raise UnusableDeviceError(
            "The full size takes an accelerator with 80 GB, and there is none: --size small runs"
            " everything on a CPU."
        )
    # 16 bit as on a card, on a CPU too.
    device = replace(open_device(kind, 0), dtype=torch.bfloat16)
    bench = Bench(size, device, kind, budget, options.rounds)
    needed, free = bench.needed_bytes(1, components=False), bench.free_bytes()
    if needed > free:
        raise UnusableDeviceError(
            f"A step of this size takes {needed / 1e9:.1f} GB, and {machine.device_name(device)}"
            f" has {free / 1e9:.1f} GB free: take a card of 80 GB, or --size small."
        )
    return bench


def _measure(part: Part, bench: Bench, report: Report) -> None:
    """Measure a part, or say why not; what goes wrong ends it alone."""
    if not part.components:
        bench.forget_components()
    why = _obstacle(part, bench)
    if why is not None:
        report.leave_out(part.name, why)
        return
    print(f"{part.name}: {part.help} ({bench.budget.left:.0f} s left)", file=sys.stderr)
    try:
        part.measure(bench, report)
    except Exception as error:
        traceback.print_exc()
        report.fail(part.name, first_line(error))
    bench.clean_up()


def _obstacle(part: Part, bench: Bench) -> str | None:
    """Say why a part cannot be measured."""
    least = part.least_s if bench.size is FULL else 0.0
    if bench.budget.left <= least:
        left = max(bench.budget.left, 0.0)
        return f"{left:.0f} s were left, and it is not begun with less than {least:.0f}"
    needed, free = bench.needed_bytes(part.copies, part.components), bench.free_bytes()
    if needed > free:
        return f"it takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
    return None


if __name__ == "__main__":
    sys.exit(main())
