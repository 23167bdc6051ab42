"""Real groups of processes paint the pictures that one rank paints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import FP8_WEIGHTS
from hidream_server.layouts.sharding import rank_parameters
from hidream_server.model_directory.reading import describe
from hidream_server.model_directory.transformer_weights import expected_weights
from hidream_server.task import InferType
from tests.parallel.tasks import SOME, TASKS, TOLERANCE
from tests.reference import reference_picture, stock_pipeline
from tests.support import psnr

ROOT = Path(__file__).parent.parent.parent
#: What is said between ranks cuts blocks into pieces.
COMPILED = ["tp2+", "tp2~+"]
FP8 = ["tp1~", "tp2~", "tp4-ep2~", "sp2~"]
LAYOUTS = ["tp2", "tp4", "tp4-ep2", "cfg2", "sp2", "sp4", "cfg2-sp2", "cfg2-tp2", "ep2"]


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    pipeline = stock_pipeline(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    return {
        name: reference_picture(
            pipeline, task, step_cache=TOLERANCE * (task.infer_type is InferType.PERFORMANCE)
        )
        for name, task in TASKS.items()
    }


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Start eight ranks once, and let them paint under every layout."""
    folder = tmp_path_factory.mktemp("painted")
    command = [sys.executable, "-m", "tests.parallel.group_program", str(folder)]
    quiet = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "HF_HUB_OFFLINE": "1"}
    command += [*LAYOUTS, *COMPILED, *FP8]
    environment = os.environ | quiet
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_group_paints_what_one_rank_paints(layout, expected, painted) -> None:
    for name, picture in expected.items():
        found = np.load(painted / layout / f"picture-{name}.npy")
        assert np.abs(found.astype(int) - picture.astype(int)).max() <= 1
        latents = [np.load(p) for p in sorted((painted / layout).glob(f"latents-{name}-*.npy"))]
        assert len(latents) == Layout.parse(layout).ranks
        assert all(np.array_equal(other, latents[0]) for other in latents)


@pytest.mark.parametrize("layout", COMPILED)
def test_a_group_whose_blocks_are_compiled_paints_the_same(layout, painted) -> None:
    plain = painted / layout.removesuffix("+")
    some = SOME[layout.removeprefix("tp2")]
    compiled = {path.name: np.load(path) for path in (painted / layout).glob("*.npy")}
    # A picture, and the latents of two ranks.
    assert len(compiled) == 3 * len(some)
    assert all(np.array_equal(found, np.load(plain / name)) for name, found in compiled.items())
    graphs = int((painted / layout / "graphs-0").read_text())
    assert graphs > len(some)


@pytest.mark.parametrize("layout", FP8)
def test_a_group_paints_in_fp8_about_as_well_as_one_rank(layout, painted) -> None:
    pipeline = stock_pipeline(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    exact = reference_picture(pipeline, TASKS["reusing"])
    of_one, found = (np.load(painted / name / "picture-reusing.npy") for name in (FP8[0], layout))
    assert 25 < psnr(of_one, exact) < 50
    # Each part of a row is rounded by what is largest in it.
    assert abs(psnr(found, exact) - psnr(of_one, exact)) < 5
    latents = [np.load(path) for path in (painted / layout).glob("latents-*.npy")]
    assert len(latents) == Layout.parse(layout.rstrip("~")).ranks
    assert all(np.array_equal(other, latents[0]) for other in latents)


@pytest.mark.parametrize("layout", FP8)
def test_a_rank_holds_what_was_planned_for_fp8(layout, painted) -> None:
    weights = expected_weights(describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH).transformer).items()
    products = [weight for weight in weights if FP8_WEIGHTS.search(weight[0])]
    plan = Layout.parse(layout.rstrip("~"))
    for rank in range(plan.ranks):
        held = json.loads((painted / layout / f"bytes-{rank}.json").read_text())
        exact, copied = (rank_parameters(some, 4, plan, rank) for some in (weights, products))
        # The scales are not in the plan: four bytes for each row, and the demo model's are short.
        assert 0 < held - (4 * exact + copied) < 0.2 * copied


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_rank_holds_what_was_planned(layout, painted) -> None:
    weights = expected_weights(describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH).transformer)
    plan = Layout.parse(layout)
    for rank in range(plan.ranks):
        held = json.loads((painted / layout / f"bytes-{rank}.json").read_text())
        assert held == 4 * rank_parameters(weights.items(), 4, plan, rank)
