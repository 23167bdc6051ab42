"""The command at the small size: everything is measured, or it is said why not."""

import io
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks.full_size.__main__ import main
from benchmarks.full_size.bench import (
    COMPILED,
    ENGINE,
    FP8,
    GROUPED,
    HOISTED,
    STEP_CACHE,
    STOCK,
    Bench,
)
from benchmarks.full_size.parts import PARTS
from benchmarks.full_size.parts.server import measure_clients
from benchmarks.full_size.parts.steps import compare
from benchmarks.full_size.report import Report
from benchmarks.full_size.sizes import SMALL as SMALL_SIZE
from hidream_server.model_directory.description import Variant
from tests.documentation.blocks import ROOT

#: The server's has a test of its own, with a server that is there.
HERE = [name for name in PARTS if name != "server"]
SMALL = ["--size", "small", "--device", "cpu", "--rounds", "1"]
STEP = {"step", "speed", "of a large product"}
DISTANCE = {"output, most", "output, relative", "latents"}


def options(parts: list[str]) -> list[str]:
    return [*SMALL, *(word for part in parts for word in ("--part", part))]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    file = tmp_path_factory.mktemp("found") / "found.json"
    torch.compiler.reset()
    try:
        assert main([*options(HERE), "--json", str(file)]) == 0
    finally:
        torch.compiler.reset()
    return json.loads(file.read_text())


def quantities(found: dict, part: str, name: str) -> set[str]:
    return {row["what"] for row in found["rows"] if (row["part"], row["name"]) == (part, name)}


def test_every_part_is_measured_and_every_number_is_one(found):
    assert list(dict.fromkeys(row["part"] for row in found["rows"])) == [
        "ceiling", "step", "operators", "sampler", "compile", "compile, one row", "one-row",
        "decode", "encode", "pictures", "fp8", "step-cache", "switch", "load",
    ]  # fmt: skip
    # Of torch's implementations of attention a CPU has one.
    absent = [f"attention alone, {name}_ATTENTION" for name in ("CUDNN", "EFFICIENT")]
    assert list(found["missing"]) == [*absent, "fp8, compiled"]
    assert quantities(found, "operators", "attention alone, FLASH_ATTENTION") == {
        "time", "speed", "of a large product",
    }  # fmt: skip
    assert found["failed"] == []
    for row in found["rows"]:
        assert row["samples"], row
        assert all(math.isfinite(sample) for sample in row["samples"]), row


@pytest.mark.parametrize("part", ["step", "one-row"])
def test_of_steps_all_is_known_that_a_cpu_can_say(found, part):
    assert quantities(found, part, STOCK) == STEP | {"waits of a forward"}
    for name in (ENGINE, GROUPED, HOISTED):
        expected = STEP | DISTANCE | {"waits of a forward", "times as fast"}
        assert quantities(found, part, name) == expected


def test_what_is_different_on_a_cpu_is_said(found):
    assert quantities(found, "compile", COMPILED) == STEP | DISTANCE | {
        "times as fast", "first run",
    }  # fmt: skip
    assert "nothing is fused" in found["notes"][f"compile: {COMPILED}"]
    assert "expert by expert" in found["notes"][f"fp8: {FP8}"]


def test_of_reused_steps_it_is_said_how_many_were_computed_and_how_near_they_come(found):
    assert quantities(found, "step-cache", STOCK) == {"all steps"}
    assert quantities(found, "step-cache", HOISTED) == {"all steps", "times as fast", "latents"}
    assert quantities(found, "step-cache", STEP_CACHE) == {
        "all steps", "times as fast", "computed steps", "latents", f"latents, from {HOISTED}",
    }  # fmt: skip
    [computed] = [row["samples"] for row in found["rows"] if row["what"] == "computed steps"]
    assert 3 < computed[0] < SMALL_SIZE.picture_steps[Variant.FULL]


def test_machine_versions_and_every_sample_are_written_down(found):
    about = found["about"]
    assert about["device"].startswith("cpu")
    assert about["dtype"] == "bfloat16"
    assert set(about["versions"]) >= {"torch", "diffusers", "transformers"}
    assert {"commit", "driver", "cores", "load average", "size", "rounds"} <= set(about)
    [steps] = [
        row["samples"]
        for row in found["rows"]
        if (row["part"], row["name"], row["what"]) == ("step", HOISTED, "step")
    ]
    # Of a run of three steps, in one round, all but the first.
    assert len(steps) == 2


def test_without_time_nothing_is_measured_and_all_of_it_is_named(tmp_path: Path, capsys) -> None:
    file = tmp_path / "found.json"
    assert main([*SMALL, "--budget-s", "0", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["rows"] == []
    assert list(found["missing"]) == list(PARTS)
    said = capsys.readouterr().out
    assert "not measured: step: 0 s were left" in said
    for name in ("fp8", "step-cache"):
        assert f"not measured: {name}: it is lossy; --part {name} measures it." in said


def test_a_part_that_fails_is_named_and_the_others_go_on(monkeypatch, capsys) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("the card is on fire\nand more")

    monkeypatch.setattr("benchmarks.full_size.parts.around.decode", break_down)
    assert main(options(["decode", "ceiling"])) == 1
    said = capsys.readouterr()
    assert "not measured: decode: RuntimeError: the card is on fire." in said.out
    assert "GB/s" in said.out
    assert "Traceback" in said.err


def test_a_way_that_fails_is_named_and_the_others_go_on(bench: Bench, monkeypatch) -> None:
    make = Bench._make
    monkeypatch.setattr(
        Bench, "_make", lambda self, name: 1 / 0 if name == GROUPED else make(self, name)
    )
    bench.forget(GROUPED)
    report = Report({})
    compare(bench, report, "step", 1, (STOCK, GROUPED, HOISTED))
    assert report.failed == [f"step: {GROUPED}"]
    assert {row.name for row in report.rows} == {STOCK, HOISTED}


def test_what_is_not_finite_is_no_result(bench: Bench, monkeypatch) -> None:
    monkeypatch.setattr(
        type(bench.way(HOISTED)), "forward", lambda *_: torch.full((1, 16, 16, 16), math.nan)
    )
    report = Report({})
    compare(bench, report, "step", 1, (STOCK, HOISTED))
    assert report.missing == {f"step: {HOISTED}": "ValueError: what it computes is not finite"}


def test_the_full_size_is_refused_where_there_is_no_card(capsys) -> None:
    assert main(["--device", "cpu"]) == 2
    assert "takes an accelerator with 80 GB" in capsys.readouterr().err


def test_a_device_without_enough_memory_is_refused_with_the_numbers(monkeypatch, capsys) -> None:
    monkeypatch.setattr(Bench, "free_bytes", lambda _: 10**9)
    assert main(SMALL) == 2
    said = capsys.readouterr().err
    assert "A step of this size takes 1." in said
    assert "has 1.0 GB free: take a card of 80 GB" in said


def test_a_part_for_which_there_is_no_memory_is_left_out(monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        Bench, "needed_bytes", lambda _, copies, components: 10**18 if components else 0
    )
    assert main(options(["decode", "ceiling"])) == 0
    assert "not measured: decode: it takes 1000000000.0 GB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--json", "/no/such/folder/found.json"], "there is no folder /no/such/folder"),
        (["--rounds", "0"], "--rounds: at least 1"),
        (["--part", "speed"], "invalid choice"),
    ],
)
def test_a_wrong_option_is_refused(wrong: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*SMALL, *wrong])
    assert said in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(capsys) -> None:
    assert main(["--size", "small", "--device", "npu"]) == 2
    assert "finds no npu here" in capsys.readouterr().err


def test_a_server_is_compared_with_a_bare_loop(server, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.throughput.CLIENTS", 2)
    report = Report({})
    measure_clients(server, report, pairs=1, steps=2, each=1)
    assert [(row.what, len(row.samples)) for row in report.rows] == [
        ("over a bare loop", 1),
        ("added to a picture", 1),
        ("throughput over a bare loop", 1),
    ]


def test_a_table_has_a_column_for_each_thing_and_a_line_for_each_quantity() -> None:
    report = Report({"device": "a card"})
    report.add_times("step", "one", "time", [0.001, 0.003, 0.002])
    report.add("step", "two", "speed", "TFLOP/s", 1234.5)
    report.leave_out("load", "no time")
    console = Console(width=100, file=io.StringIO())
    report.show(console)
    text = console.file.getvalue()
    assert "2 (1 to 3)" in text
    assert "1234" in text
    assert "not measured: load: no time." in text
    assert "device: a card" in text


def test_the_page_says_of_every_part_what_it_is() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in PARTS:
        assert f"`{name}`" in page
