"""What is decided, and refused, before anything is started."""

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from hidream_server.cli import deciding
from hidream_server.cli.deciding import decide
from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH, DEMO_NOTICE
from hidream_server.devices.choice import KINDS
from hidream_server.devices.cpu import CPU
from hidream_server.devices.npu import NPU
from hidream_server.errors import (
    Fp8Error,
    LayoutUnavailableError,
    ModelDirectoryError,
    NodesError,
    PathMissingError,
    ProjectPathError,
    StepCacheError,
    TorchMissingError,
    TracingMissingError,
)
from hidream_server.ipc.messages import Profile
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import plan_memory
from hidream_server.settings import Settings
from tests.support import linked_demo

DEMO = {"model_path": DEMO_MODEL_PATH, "extra_model_path": DEMO_EXTRA_MODEL_PATH}


def test_the_plan_names_model_and_devices():
    plan = decide(Settings(**DEMO))
    assert plan.model.is_demo
    assert (plan.devices.kind.name, plan.devices.ids) == ("cpu", (0,))


def test_traces_without_their_exporter_are_refused(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "otlp" in name else find_spec(name)
    )
    decide(Settings(**DEMO))
    with pytest.raises(TracingMissingError, match="otel"):
        decide(Settings(**DEMO, otlp_endpoint="http://localhost:4318"))


def test_the_ranks_are_told_what_was_decided():
    serving = decide(Settings(**DEMO, log_level="DEBUG", prompt_cache_mb=3))
    profile = Profile(step_s={64: {1: 0.5}}, beside_s={64: 0.0}, preview_map=[])
    command = serving.load_command(Layout(tp=2), profile)
    assert command.layout == "tp2"
    assert command.profile == profile
    assert (command.max_rows, command.max_row_tokens) == (8, 8 * 256)
    assert command.model_path == str(DEMO_MODEL_PATH)
    assert command.extra_model_path == str(DEMO_EXTRA_MODEL_PATH)
    assert command.device_type == "cpu"
    assert (command.log_level, command.prompt_cache_bytes) == ("DEBUG", 3 * 2**20)


TWO_MACHINES = {"nnodes": 2, "rdzv_endpoint": "10.0.0.1:29400", "device_type": "cpu"}


def test_a_group_on_two_machines_has_the_devices_of_both(caplog):
    serving = decide(Settings(**DEMO, **TWO_MACHINES, devices="0,1", layout="cfg2-tp2"))
    assert serving.layout.ranks == 4
    assert serving.used == (0, 1)
    assert serving.ranks_here(serving.layout) == 2
    assert serving.control_host(serving.layout) == "10.0.0.1"
    assert serving.control_host(Layout()) == "127.0.0.1"
    assert not serving.fits(Layout(sp=4, cfg=2))
    with caplog.at_level(logging.INFO):
        serving.announce()
    assert "on each of 2 machines" in caplog.text


def test_two_machines_are_not_left_idle_for_a_layout_of_one():
    with pytest.raises(LayoutUnavailableError, match="2 machines have 6"):
        decide(Settings(**DEMO, **TWO_MACHINES, devices="0,1,2"))


def test_a_supervisor_is_on_the_first_machine():
    with pytest.raises(NodesError, match="hidream worker"):
        decide(Settings(**DEMO, **TWO_MACHINES, node_rank=1))


def test_the_demo_model_is_announced_as_a_toy_with_a_warning(caplog):
    with caplog.at_level(logging.INFO, "hidream_server"):
        decide(Settings(**DEMO)).announce()
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert DEMO_NOTICE in caplog.messages
    assert any("HiDream-I1-Demo (Full" in message for message in caplog.messages)
    assert any("cpu device 0" in message for message in caplog.messages)


def test_another_model_is_announced_without_a_warning(caplog, tmp_path):
    model = linked_demo(tmp_path)
    settings = Settings(model_path=model, extra_model_path=DEMO_EXTRA_MODEL_PATH, device_type="cpu")
    with caplog.at_level(logging.INFO, "hidream_server"):
        decide(settings).announce()
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert DEMO_NOTICE not in caplog.messages


def test_a_project_path_must_hold_an_inference_py(tmp_path):
    with pytest.raises(ProjectPathError) as caught:
        decide(Settings(**DEMO, project_path=tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "-p" in str(caught.value)
    (tmp_path / "inference.py").touch()
    decide(Settings(**DEMO, project_path=tmp_path))


def test_a_project_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ProjectPathError):
        decide(Settings(**DEMO, project_path=tmp_path / "nowhere"))


def test_what_cannot_be_served_is_refused(tmp_path: Path):
    with pytest.raises(PathMissingError):
        decide(Settings(model_path=tmp_path / "nowhere"))
    with pytest.raises(ModelDirectoryError):
        decide(Settings(model_path=tmp_path))


def test_an_impossible_layout_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    with pytest.raises(LayoutUnavailableError, match=r"4 cards.*tp1, cfg2, ep2, sp2, tp2"):
        decide(Settings(**DEMO, devices=(0, 1), device_type="cpu", layout="tp4"))


@pytest.mark.parametrize("executor", ["resident", "project"])
def test_what_does_not_fit_is_refused_unless_a_project_sees_to_it(monkeypatch, tmp_path, executor):
    (tmp_path / "inference.py").touch()
    small = replace(CPU, memory=lambda _devices: 1000)
    monkeypatch.setattr("hidream_server.devices.choice.CPU", small)
    settings = Settings(**DEMO, executor=executor, project_path=tmp_path)
    if executor == "project":
        assert decide(settings).project == tmp_path
    else:
        with pytest.raises(LayoutUnavailableError, match="does not fit"):
            decide(settings)


def test_encoders_wait_where_the_device_has_no_room_for_them_all(monkeypatch, caplog):
    free = decide(Settings(**DEMO))
    [rank] = free.memory(free.layout)
    lacking = replace(CPU, memory=lambda _devices: int((rank.total - 1) / 0.92))
    monkeypatch.setattr("hidream_server.devices.choice.CPU", lacking)
    serving = decide(Settings(**DEMO))
    offloaded = serving.load_command(serving.layout, None).offloaded_encoders
    assert free.load_command(free.layout, None).offloaded_encoders == []
    assert len(offloaded) == 2
    serving.announce()
    assert (
        f"offloaded to the host's memory between prompts: {', '.join(offloaded)}" in caplog.messages
    )
    with pytest.raises(LayoutUnavailableError, match="does not fit"):
        decide(Settings(**DEMO, offload_encoders="never"))


def test_a_project_takes_no_layout_that_is_not_its_own(tmp_path):
    (tmp_path / "inference.py").touch()
    settings = Settings(
        **DEMO, executor="project", project_path=tmp_path, device_count=2, layout="cfg2"
    )
    with pytest.raises(LayoutUnavailableError, match="tp and ep only"):
        decide(settings)


@pytest.mark.parametrize(
    ("count", "replicas", "layout", "groups"),
    [(3, 3, "tp1", [(0,), (1,), (2,)]), (5, 2, "tp2", [(0, 1), (2, 3)]), (2, 1, "tp2", [(0, 1)])],
)
def test_every_replica_has_devices_of_its_own(count, replicas, layout, groups):
    serving = decide(Settings(**DEMO, device_count=count, device_type="cpu", replicas=replicas))
    assert (str(serving.layout), serving.replica_devices) == (layout, groups)
    assert serving.used == tuple(range(len(groups) * len(groups[0])))


def test_more_replicas_than_devices_are_refused():
    with pytest.raises(LayoutUnavailableError, match=r"3 replicas .* there are 2"):
        decide(Settings(**DEMO, device_count=2, device_type="cpu", replicas=3))


def test_devices_without_work_are_named(monkeypatch, caplog):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1, 2})
    serving = decide(Settings(**DEMO, device_count=3, device_type="cpu"))
    assert (str(serving.layout), serving.used) == ("tp2", (0, 1))
    with caplog.at_level(logging.INFO, "hidream_server"):
        serving.announce()
    assert "idle: cpu device 2" in caplog.messages


def test_without_torch_nothing_else_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(deciding, "choose_model", lambda _settings: pytest.fail("looked"))
    with pytest.raises(TorchMissingError):
        decide(Settings(model_path=tmp_path))


def test_no_more_rows_are_allowed_than_there_is_memory_for(monkeypatch):
    free = decide(Settings(**DEMO))
    [two], [four] = (
        plan_memory(free.model, free.layout, replace(free.room, rows=rows)) for rows in (2, 4)
    )
    between = int((two.total + four.total) / 2 / 0.92)
    monkeypatch.setattr(
        "hidream_server.devices.choice.CPU", replace(CPU, memory=lambda _devices: between)
    )
    serving = decide(Settings(**DEMO))
    assert serving.load_command(serving.layout, None).max_row_tokens == 2 * 256


def test_what_a_profile_holds_for_is_in_its_name(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    name = decide(Settings(**DEMO)).profile_name
    assert name.startswith("HiDream-I1-Demo-")
    assert ".cpu3." in name


def test_folders_of_one_name_have_profiles_of_their_own(tmp_path):
    names = set()
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        model = linked_demo(folder)
        settings = Settings(
            model_path=model, extra_model_path=DEMO_EXTRA_MODEL_PATH, device_type="cpu"
        )
        names.add(decide(settings).profile_name)
    assert len(names) == 2


@pytest.mark.parametrize("layout", ["tp1", "tp2", "cfg2"])
def test_the_ranks_are_told_to_compile(layout):
    serving = decide(Settings(**DEMO, device_count=2, compile=True, layout=layout))
    assert serving.load_command(serving.layout, None).compile


def test_a_step_cache_is_refused_where_no_step_would_be_reused(fast_model, tmp_path):
    assert decide(Settings(**DEMO, step_cache=0.05)).load_command(Layout(), None).step_cache == 0.05
    fast = {"model_path": fast_model, "device_type": "cpu"}
    fast["extra_model_path"] = fast_model.parent / DEMO_EXTRA_MODEL_PATH.name
    with pytest.raises(StepCacheError, match="FlowMatchLCMScheduler, draws new noise"):
        decide(Settings(**fast, step_cache=0.05))
    assert decide(Settings(**fast)).model.draws_noise
    (tmp_path / "inference.py").touch()
    with pytest.raises(StepCacheError, match="--executor project"):
        decide(Settings(**DEMO, executor="project", project_path=tmp_path, step_cache=0.05))


def test_fp8_is_refused_where_it_cannot_be_had(monkeypatch, tmp_path):
    serving = decide(Settings(**DEMO, fp8=True))
    assert serving.load_command(serving.layout, None).fp8
    assert serving.room.fp8
    (tmp_path / "inference.py").touch()
    with pytest.raises(Fp8Error, match="--executor project"):
        decide(Settings(**DEMO, executor="project", project_path=tmp_path, fp8=True))
    assert "not written for NPUs" in NPU.fp8_obstacle((0,))
    poor = replace(CPU, fp8_obstacle=NPU.fp8_obstacle)
    monkeypatch.setitem(KINDS, "cpu", poor)
    with pytest.raises(Fp8Error, match="not possible here: it is not written for NPUs"):
        decide(Settings(**DEMO, device_type="cpu", fp8=True))
    assert decide(Settings(**DEMO, device_type="cpu")).layout == Layout()


def test_a_layout_with_no_room_for_fp8_does_without(caplog):
    serving = decide(Settings(**DEMO, device_type="cpu", fp8=True))
    [exact], [lossy] = (
        plan_memory(serving.model, Layout(), replace(serving.room, fp8=fp8))
        for fp8 in (False, True)
    )
    between = (exact.total + lossy.total) / 2 / 0.92
    tight = replace(serving, room=replace(serving.room, device_bytes=int(between)))
    for here, expected in ((serving, True), (tight, False)):
        assert here.fits(Layout())
        assert here.load_command(Layout(), None).fp8 is expected
    with caplog.at_level(logging.INFO, "hidream_server"):
        serving.announce()
    assert "lossy for tasks with infer_type Performance: fp8" in caplog.messages
    assert ".fp8." in serving.profile_name
