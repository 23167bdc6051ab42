"""The doctor says what would be served, and everything that stands in the way."""

import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hidream_server.cli.deciding import decide
from hidream_server.cli.instance import claim_instance
from hidream_server.cli.main import app
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.devices import npu
from hidream_server.devices.choice import KINDS
from hidream_server.devices.cuda import CUDA
from hidream_server.settings import Settings
from tests.support import edit_json, linked_demo, new_database, rewrite

WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., Result]:
    """Return a function that asks the doctor of a model, with a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def ask(model: Path = DEMO_MODEL_PATH, *more: str, device: str | None = "cpu") -> Result:
        arguments = ["doctor", "-m", str(model), "-e", str(DEMO_EXTRA_MODEL_PATH)]
        arguments += [] if device is None else ["-t", device]
        arguments += ["--data-dir", str(tmp_path / "var"), "--log-dir", str(tmp_path / "logs")]
        arguments += ["--host", "127.0.0.1", "--port", str(port), *more]
        return CliRunner().invoke(app, arguments)

    return ask


def problems(result: Result) -> list[str]:
    """Return what stands in the way; there must be something then, and the exit code say so."""
    found = [line for line in result.output.splitlines() if line.startswith("problem: ")]
    assert result.exit_code == (1 if found else 0)
    last = result.output.splitlines()[-1]
    assert last.startswith("This cannot be served" if found else "This can be served.")
    return [line.removeprefix("problem: ") for line in found]


def broken_demo(folder: Path, weights: Callable[[bytes], bytes]) -> Path:
    """Return a copy of the demo model whose transformer's weights are changed."""
    model = linked_demo(folder)
    rewrite(model / WEIGHTS, weights((DEMO_MODEL_PATH / WEIGHTS).read_bytes()))
    return model


def test_the_demo_model_can_be_served(doctor):
    result = doctor()
    assert problems(result) == []
    text = result.output
    assert str(DEMO_MODEL_PATH) in text
    assert "embedded demo model" in text
    assert str(DEMO_EXTRA_MODEL_PATH) in text
    assert "Full (UniPCMultistepScheduler; by default 50 steps, guidance 5)" in text
    assert "1024x1024, 1024x768, 768x1024, 512x512" in text
    assert "cpu 0 (asked for), float32" in text
    assert "127.0.0.1 port" in text
    assert "GiB free at" in text


def test_nothing_is_written(doctor, tmp_path):
    doctor()
    doctor(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_one_problem(doctor, tmp_path):
    (tmp_path / "model").mkdir()
    assert problems(doctor(tmp_path / "model")) == [
        f"{tmp_path / 'model'}: is an empty folder: no model is in it"
    ]


def test_a_truncated_shard_is_named_with_what_is_there_of_it(doctor, tmp_path):
    model = broken_demo(tmp_path, lambda data: data[:-1000])
    size = (DEMO_MODEL_PATH / WEIGHTS).stat().st_size
    assert problems(doctor(model)) == [
        f"{model / WEIGHTS}: is truncated: {size - 1000} bytes of {size}"
    ]


def test_a_pointer_of_git_lfs_is_named_with_the_way_out(doctor, tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4567\n"
    model = broken_demo(tmp_path, lambda _: pointer)
    assert problems(doctor(model)) == [
        f"{model / WEIGHTS}: is a Git LFS pointer, not the file; run git lfs pull"
    ]


def test_a_dev_directory_is_known_by_its_sampler(doctor, tmp_path):
    model = linked_demo(tmp_path)
    edit_json(
        model / "scheduler" / "scheduler_config.json", _class_name="FlowMatchLCMScheduler", shift=6
    )
    result = doctor(model)
    assert problems(result) == []
    assert "variant: Dev (FlowMatchLCMScheduler; by default 28 steps, guidance 0)" in result.output


def test_devices_that_are_not_there_are_named(doctor, monkeypatch, tmp_path):
    monkeypatch.setattr(npu, "DEVICE_FOLDER", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    [problem] = problems(doctor(DEMO_MODEL_PATH, "-d", "0,1", device="npu"))
    assert problem.startswith("Device 0 was asked for, but this machine has no npu:")


def test_a_device_type_that_torch_cannot_use_here_is_named(doctor):
    result = doctor(device="npu")
    [problem] = problems(result)
    assert "torch_npu is not installed" in problem
    assert "and this machine has no npu" in problem
    # What can be said of the model is said all the same.
    assert "variant: Full" in result.output


def test_ranks_on_the_cpu_are_a_warning_where_cards_may_have_been_meant(doctor, tmp_path):
    warning = "warning: Several devices were asked for: these are ranks on the CPU"
    model = linked_demo(tmp_path)
    assert warning in doctor(model, "-d", "0,1", device=None).output
    assert warning not in doctor(model, "-d", "0,1").output
    assert warning not in doctor(model, device=None).output


def test_a_port_in_use_is_named(doctor):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [problem] = problems(doctor(DEMO_MODEL_PATH, "--port", str(port)))
    assert f"Port {port} on 127.0.0.1 is in use" in problem


def test_a_server_that_runs_already_is_named(doctor, tmp_path):
    with claim_instance(tmp_path / "var"):
        [problem] = problems(doctor())
    assert problem.startswith("A server (process ")


def test_a_folder_that_cannot_be_made_is_named(doctor, tmp_path):
    (tmp_path / "file").touch()
    [problem] = problems(doctor(DEMO_MODEL_PATH, "--log-dir", str(tmp_path / "file" / "logs")))
    assert "another --log-dir" in problem


def test_a_database_of_a_newer_version_is_named(doctor, tmp_path):
    (tmp_path / "var").mkdir()
    database = new_database(tmp_path / "var" / "tasks.db")
    assert problems(doctor()) == []
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.dispose()
    [problem] = problems(doctor())
    assert "has schema 9999" in problem


def test_a_database_that_does_not_answer_is_named(doctor):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"postgresql://somebody:secret@127.0.0.1:{port}/tasks"
    [problem] = problems(doctor(DEMO_MODEL_PATH, "--database-url", url))
    assert "does not answer" in problem
    assert "secret" not in problem


def test_all_that_stands_in_the_way_is_found_at_once(doctor, tmp_path):
    model = linked_demo(tmp_path)
    (model / "model_index.json").unlink()
    shutil.rmtree(model / "tokenizer")
    (model / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = problems(doctor(model, "--port", str(port), device="npu"))
    assert found[0].startswith(f"Port {port} ")
    assert found[1:4] == [
        f"{model / 'model_index.json'}: is missing",
        f"{model / 'vae' / 'diffusion_pytorch_model.safetensors'}: is missing",
        f"{model / 'tokenizer'}: has no tokenizer:"
        " tokenizer.json or vocab.json and merges.txt is missing",
    ]
    assert [sentence.split()[0] for sentence in found[4:]] == ["-t"]


def test_a_path_that_does_not_exist_is_named(doctor, tmp_path):
    [problem] = problems(doctor(tmp_path / "nowhere"))
    assert "nowhere does not exist" in problem


def test_little_room_is_a_warning(doctor):
    result = doctor(DEMO_MODEL_PATH, "--keep-pictures-gb", "1000000")
    assert problems(result) == []
    assert "warning: Pictures may take 1e+06 GiB (--keep-pictures-gb), and " in result.output
    enough = doctor(DEMO_MODEL_PATH, "--keep-pictures-gb", "0.001")
    assert "Pictures may take" not in enough.output


def test_a_copy_is_not_called_the_demo(doctor, tmp_path):
    result = doctor(linked_demo(tmp_path))
    assert problems(result) == []
    assert "embedded demo" not in result.output


def test_the_demo_model_has_ranks_of_its_own_whatever_cards_there_are(doctor, monkeypatch):
    """A card that would be preferred for another model, and is one only, is not asked for two."""
    card = replace(CUDA, count=lambda: 1, obstacle=lambda: None)
    monkeypatch.setitem(KINDS, "cuda", card)
    result = doctor(DEMO_MODEL_PATH, "-c", "2", device=None)
    assert "layout:  tp2, on 2 of 2 devices" in result.output
    assert problems(result) == []


def test_a_place_for_pictures_that_cannot_be_used_is_named(doctor, tmp_path):
    (tmp_path / "file").touch()
    [problem] = problems(doctor(DEMO_MODEL_PATH, "--results", str(tmp_path / "file" / "x")))
    assert "choose another --results" in problem


def test_what_is_no_database_is_named(doctor, tmp_path):
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "tasks.db").write_bytes(b"no database" * 100)
    [problem] = problems(doctor())
    assert "does not answer as it should: file is not a database" in problem


@pytest.mark.parametrize("is_running", [False, True])
def test_a_database_is_looked_at_and_not_changed(doctor, tmp_path, is_running):
    (tmp_path / "var").mkdir()
    database = new_database(tmp_path / "var" / "tasks.db")
    if is_running:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    else:
        database.dispose()
    names = ["tasks.db", "tasks.db-wal"]

    def contents() -> list[bytes | None]:
        files = (tmp_path / "var" / name for name in names)
        return [file.read_bytes() if file.exists() else None for file in files]

    before = contents()
    # What is not yet in the file is seen, too.
    assert len(problems(doctor())) == is_running
    assert contents() == before
    database.dispose()


def test_a_model_that_may_not_be_read_is_named(doctor, tmp_path, monkeypatch):
    # Who runs the tests may be root, who may read anything.
    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "model").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert problems(doctor(tmp_path / "model")) == [
        f"{tmp_path / 'model'}: cannot be read: Permission denied"
    ]


# What it would take


def test_every_component_is_listed_with_its_memory_and_the_sum(doctor):
    lines = doctor().output.splitlines()
    sizes = []
    for name in ("transformer", "vae", *(f"text_encoder{n}" for n in ("", "_2", "_3", "_4"))):
        [line] = [line for line in lines if f" {name} " in line]
        cells = line.replace("│", " ").split()
        parameters, size = int(cells[2].replace(",", "")), float(cells[3])
        assert size == pytest.approx(parameters * 4 / 1e9, abs=0.001)
        sizes.append(parameters)
    [total] = [line for line in lines if "together" in line]
    assert float(total.replace("│", " ").split()[1]) == pytest.approx(
        sum(sizes) * 4 / 1e9, abs=0.001
    )


def test_every_rank_is_listed_with_what_it_holds(doctor, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    result = doctor(DEMO_MODEL_PATH, "-c", "2")
    assert "layout:  tp2, on 2 of 2 devices" in result.output
    settings = Settings(
        model_path=DEMO_MODEL_PATH,
        extra_model_path=DEMO_EXTRA_MODEL_PATH,
        device_type="cpu",
        device_count=2,
    )
    serving = decide(settings)
    lines = [line.replace("│", " ").split() for line in result.output.splitlines()]
    for rank in serving.memory(serving.layout):
        [cells] = [cells for cells in lines if cells[:1] == [str(rank.rank)]]
        assert float(cells[-1]) == pytest.approx(rank.total / 1e9, abs=0.005)
    assert "How much memory a device has is not known here." in result.output


def test_what_waits_is_said(doctor):
    text = doctor(DEMO_MODEL_PATH, "--offload-encoders", "always").output
    assert "between prompts: text_encoder" in text


# For programs


def said(result: Result) -> dict[str, Any]:
    found = json.loads(result.output)
    assert result.exit_code == (0 if found["servable"] else 1)
    return found


def test_programs_are_told_the_same(doctor, tmp_path):
    found = said(doctor(DEMO_MODEL_PATH, "--json", "-c", "2"))
    assert found["servable"]
    assert found["problems"] == []
    assert found["model"]["variant"] == "Full"
    assert found["model"]["demo"]
    assert found["device"]["type"] == "cpu"
    assert found["device"]["ids"] == [0, 1]
    assert found["layout"] == "tp2"
    assert len(found["rank_bytes"]) == 2
    assert found["data_dir"] == str(tmp_path / "var")


def test_programs_are_told_what_stands_in_the_way_by_its_code(doctor, tmp_path):
    found = said(doctor(tmp_path / "nowhere", "--json", device="npu"))
    codes = [problem["code"] for problem in found["problems"]]
    assert codes == ["path_missing", "device_unavailable"]
    assert "model" not in found
