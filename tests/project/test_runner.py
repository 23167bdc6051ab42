"""A user's project paints exactly one task's pictures, on many devices or, failing that, on one."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hidream_server.layouts.layout import Layout
from hidream_server.project.command import Project, build_command
from hidream_server.project.progress import Progress
from hidream_server.project.runner import ProjectFailedError, ProjectRunner
from hidream_server.task import TaskParams
from tests.support import params

STAND_IN = Project(
    path=Path(__file__).parent / "stand_in", model_path="/m", extra_model_path="/llama"
)
ALONE = Layout()
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def paint(task: TaskParams, layout: Layout = ALONE) -> tuple[list[np.ndarray], list[int]]:
    steps: list[int] = []
    files = ProjectRunner(STAND_IN, layout, ENVIRONMENT).paint(task, steps.append)
    return [np.asarray(Image.open(io.BytesIO(data))) for data in files], steps


def test_two_ranks_paint_together() -> None:
    task = params(num_images=2, width=96, height=64, num_inference_steps=7, seed=9)
    pictures, steps = paint(task, Layout(tp=2))
    assert [picture.shape for picture in pictures] == [(64, 96, 3)] * 2
    assert [picture[0, 0].tolist() for picture in pictures] == [[9, 2, 7], [10, 2, 7]]
    assert steps == sorted(steps)
    assert steps[-1] == 14


def test_one_device_needs_no_torchrun() -> None:
    [picture], _ = paint(params(num_inference_steps=3, seed=5))
    assert picture[0, 0].tolist() == [5, 1, 3]


@pytest.mark.parametrize("prompt", ["fail on many", "die"])
def test_after_a_failure_one_device_paints_with_the_same_parameters(prompt, caplog) -> None:
    task = params(prompt=prompt, width=128, num_images=2, num_inference_steps=6, seed=1)
    pictures, _ = paint(task, Layout(tp=2))
    assert [picture.shape[1] for picture in pictures] == [128, 128]
    assert [picture[0, 0].tolist() for picture in pictures] == [[1, 1, 6], [2, 1, 6]]
    assert any("Distributed inference failed, trying single" in line for line in caplog.messages)


@pytest.mark.parametrize("layout", [ALONE, Layout(tp=2)], ids=str)
def test_a_stop_ends_the_script_and_nothing_else_is_tried(layout: Layout, caplog) -> None:
    runner = ProjectRunner(STAND_IN, layout, ENVIRONMENT)
    with pytest.raises(ProjectFailedError):
        runner.paint(params(prompt="go on for ever"), lambda _steps: runner.stop())
    assert not any("trying single" in line for line in caplog.messages)


def test_a_script_that_is_stopped_before_it_starts_does_not_go_on() -> None:
    runner = ProjectRunner(STAND_IN, ALONE, ENVIRONMENT)
    runner.stop()
    with pytest.raises(ProjectFailedError):
        runner.paint(params(prompt="go on for ever"), lambda _steps: None)


def test_what_fails_everywhere_fails_with_what_was_printed() -> None:
    with pytest.raises(ProjectFailedError, match="this prompt cannot be painted"):
        paint(params(prompt="fail"))


def test_a_project_that_paints_nothing_has_failed() -> None:
    with pytest.raises(ProjectFailedError, match="0 pictures of 1"):
        paint(params(prompt="keep quiet"))


# The command line


def flags(layout: Layout, folder: Path, task: TaskParams) -> dict[str, str]:
    command = build_command(STAND_IN, task, layout, folder)
    words = command[command.index("inference.py") + 1 :]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_the_first_versions_arguments(tmp_path: Path) -> None:
    found = flags(Layout(tp=4, ep=2), tmp_path, params(width=1024, height=768))
    assert found["--enable_parallelism"] == "True"
    assert (found["--tp_size"], found["--ep_size"]) == ("4", "2")
    assert (found["--model_path"], found["--model_path_extra"]) == ("/m", "/llama")
    assert found["--resolution"] == "1024x768"
    assert (found["--batch_size"], found["--infer_type"]) == ("1", "Accuracy")
    assert found["--save_dir"] == str(tmp_path)
    assert "--device_id" not in found


def test_a_single_device_is_told_no_sizes(tmp_path: Path) -> None:
    found = flags(Layout(), tmp_path, params())
    assert found["--device_id"] == "0"
    assert not {"--enable_parallelism", "--tp_size", "--ep_size"} & set(found)


def test_only_flags_that_the_project_knows_are_added(tmp_path: Path) -> None:
    found = flags(Layout(), tmp_path, params(seed=3))
    assert found["--seed"] == "3"
    assert "--guidance_scale" not in found


def test_a_prompt_is_one_line(tmp_path: Path) -> None:
    flags(Layout(), tmp_path, params(prompt="two\nlines 红"))
    assert (tmp_path / "prompt.txt").read_text(encoding="utf-8") == "two lines 红"


# Progress


def test_steps_are_counted_over_images_and_other_bars_are_not_steps() -> None:
    progress = Progress(steps_per_image=4, images=2)
    assert progress.read("Loading weights:  50%|##   | 1/2 [00:01<00:01]") == 0
    assert progress.read("no bar at all 3/4") == 0
    assert [progress.read(f" 25%|## | {done}/4 [00:01<00:03]") for done in (1, 2, 4, 0, 1, 4)] == [
        1,
        2,
        4,
        4,
        5,
        8,
    ]


def test_bars_of_several_ranks_are_one() -> None:
    progress = Progress(steps_per_image=4, images=2)
    bars = [0, 0, 1, 2, 1, 3, 2, 4, 3, 4, 0, 0, 1, 1]
    seen = [progress.read(f"|## | {done}/4 [00:01<00:03]") for done in bars]
    assert seen == [0, 0, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 5, 5]


def test_a_picture_of_another_size_is_not_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "inference.py").write_text(
        "import sys\nfrom PIL import Image\n"
        "folder = sys.argv[sys.argv.index('--save_dir') + 1]\n"
        "Image.new('RGB', (64, 64)).save(folder + '/a.png')\n"
    )
    project = Project(path=tmp_path, model_path="/m", extra_model_path=None)
    with pytest.raises(ProjectFailedError, match="64x64, not 128x64"):
        ProjectRunner(project, ALONE, ENVIRONMENT).paint(
            params(width=128, height=64), lambda _steps: None
        )


def test_what_the_project_does_not_take_is_said(tmp_path: Path, caplog) -> None:
    (tmp_path / "inference.py").write_text('parser.add_argument("--seed")')
    project = Project(path=tmp_path, model_path="/m", extra_model_path=None)
    build_command(project, params(), ALONE, tmp_path)
    [message] = caplog.messages
    assert "--guidance_scale, --negative_prompt" in message
    assert "--seed" not in message
