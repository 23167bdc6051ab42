"""The doctor says what would be served, or everything that stands in the way."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hidream_server.cli.main import app
from hidream_server.cli.serving import decide
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import ModelDirectoryError, PathMissingError
from hidream_server.settings import Settings
from tests.support import linked_demo


def doctor(model: Path, llama: Path, *more: str) -> Result:
    arguments = ["doctor", "-m", str(model), "-e", str(llama), "-t", "cpu", *more]
    return CliRunner().invoke(app, arguments)


def test_the_demo_model_can_be_served():
    result = doctor(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    assert result.exit_code == 0
    text = result.output
    assert str(DEMO_MODEL_PATH) in text
    assert "embedded demo model" in text
    assert str(DEMO_EXTRA_MODEL_PATH) in text
    assert "Full (UniPCMultistepScheduler; by default 50 steps, guidance 5)" in text
    assert "1024x1024, 1024x768, 768x1024, 512x512" in text
    assert "cpu 0 (asked for), float32" in text
    assert text.rstrip().endswith("This can be served.")


def test_every_component_is_listed_with_its_memory_and_the_sum():
    lines = doctor(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH).output.splitlines()
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


def test_every_rank_is_listed_with_what_it_holds(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    result = doctor(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH, "-c", "2")
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


def test_what_waits_is_said():
    text = doctor(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH, "--offload-encoders", "always").output
    assert "between prompts: text_encoder" in text


def test_a_copy_is_not_called_the_demo(tmp_path):
    result = doctor(linked_demo(tmp_path), DEMO_EXTRA_MODEL_PATH)
    assert result.exit_code == 0
    assert "embedded demo" not in result.output


def test_a_broken_model_has_all_its_findings_listed_and_is_refused(tmp_path):
    model = linked_demo(tmp_path)
    (model / "model_index.json").unlink()
    shutil.rmtree(model / "tokenizer")
    (model / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    result = doctor(model, DEMO_EXTRA_MODEL_PATH)
    assert result.exit_code == 1
    assert isinstance(result.exception, ModelDirectoryError)
    assert [str(finding) for finding in result.exception.findings] == [
        f"{model / 'model_index.json'}: is missing",
        f"{model / 'vae' / 'diffusion_pytorch_model.safetensors'}: is missing",
        f"{model / 'tokenizer'}: has no tokenizer:"
        " tokenizer.json or vocab.json and merges.txt is missing",
    ]
    assert "can be served" not in result.output


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    result = doctor(tmp_path / "nowhere", DEMO_EXTRA_MODEL_PATH)
    assert result.exit_code == 1
    assert isinstance(result.exception, PathMissingError)
