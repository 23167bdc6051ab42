"""A rank with a model that is a formula; the tests run it in a process of its own.

A prompt says what goes wrong: "no words" cannot be encoded, "raise" fails in its first step,
"large" has no room beside another image, "still" needs a forward for every other step only and
"still on 0" thinks so on rank 0 alone, "slow" takes its time, "long to read" does so before its
first step, "no file" makes no PNG, "break the device" spoils it for all that come after, "break in
the end" does so beside the loop, "die" ends the process.
"""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch

from hidream_server.errors import SamplingError
from hidream_server.ipc.messages import LoadModel
from hidream_server.pipeline.previews import PreviewMap, preview
from hidream_server.task import TaskParams
from hidream_server.worker import loading
from hidream_server.worker.__main__ import main
from tests.support import tokens


class FormulaImage(SimpleNamespace):
    """An image that is its number of steps."""

    fp8, fp8_steps = False, 0

    @property
    def finished(self) -> bool:
        return self.steps_done == self.params.num_inference_steps

    @property
    def reuses_next(self) -> bool:
        names = ("still", "still, and raise", f"still on {os.environ['RANK']}")
        return self.params.prompt in names and self.steps_done % 2 == 1 and not self.last

    @property
    def last(self) -> bool:
        return self.steps_done == self.params.num_inference_steps - 1


class FormulaRunner:
    broken = False
    together = False

    def warm_up(self) -> float:
        return 0.0

    def begin(self, params: TaskParams) -> list[FormulaImage]:
        if params.prompt == "no words" or params.prompt == f"no words on {os.environ['RANK']}":
            raise ValueError("this prompt cannot be encoded")
        if params.prompt == "long to read":
            time.sleep(1.0)
        return [
            FormulaImage(
                params=params,
                seed=seed,
                steps_done=0,
                reused_steps=0 if "still" in params.prompt else None,
                foreseen=torch.full((1, 1, 2, 2), 0.5),
            )
            for seed in params.seeds
        ]

    def resume(self, images: list[FormulaImage], checkpoint: bytes) -> None:
        for image, steps in zip(images, json.loads(checkpoint), strict=True):
            image.steps_done = steps

    def checkpoint(self, images: list[FormulaImage]) -> Callable[[], bytes]:
        steps = [image.steps_done for image in images]
        return lambda: json.dumps(steps).encode()

    def preview(self, run: FormulaImage, shares: PreviewMap) -> Callable[[], np.ndarray]:
        return partial(preview, run.foreseen, shares)

    def step(self, runs: list[FormulaImage]) -> None:
        for run in runs:
            self._check(run.params.prompt, len(runs))
        self._note(" + ".join(f"{run.params.prompt} {run.seed} {run.steps_done}" for run in runs))
        for run in runs:
            run.steps_done += 1
        if any(run.params.prompt == "lose the way" for run in runs):
            raise SamplingError

    def reuse(self, run: FormulaImage) -> None:
        if run.params.prompt == "still, and raise":
            raise ValueError("this step cannot be reused")
        self._note(f"({run.params.prompt} {run.seed} {run.steps_done})")
        run.steps_done += 1
        run.reused_steps += 1

    def _note(self, said: str) -> None:
        if folder := os.environ.get("TURNS_FOLDER"):
            with open(f"{folder}/{os.environ['RANK']}", "a") as turns:
                turns.write(said + "\n")

    def _check(self, prompt: str, images: int) -> None:
        """Let go wrong what a prompt says."""
        if prompt == "raise":
            raise ValueError("this prompt cannot be painted\nand here is a page about why")
        if prompt == "large" and images > 1:
            raise RuntimeError("out of memory")
        if prompt == "die":
            os._exit(9)
        if prompt == "break the device":
            self.broken = True
            raise RuntimeError("illegal memory access")
        if prompt == "slow":
            time.sleep(0.2)

    def is_out_of_memory(self, error: Exception) -> bool:
        return "out of memory" in str(error)

    def tokens(self, params: TaskParams) -> int:
        return tokens(params)

    def decode(self, run: FormulaImage) -> np.ndarray:
        if run.params.prompt == "break in the end":
            self.broken = True
            raise RuntimeError("illegal memory access")
        return np.full((2, 2, 3), run.seed, dtype=np.uint8)

    def about(
        self, params: TaskParams, image_index: int, reused_steps: int | None, fp8_steps: int
    ) -> dict[str, str]:
        if params.prompt == "no file":
            raise ValueError("a picture without a story")
        return {"seed": str(params.seeds[image_index]), "reused": str(reused_steps)}

    @property
    def decodes(self) -> bool:
        return os.environ["RANK"] == "0"

    def fit_preview_map(self) -> list[list[float]]:
        return [[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]

    def memory_bytes(self) -> int:
        return 0

    prompt_lookups = (3, 1)

    def peak_memory_bytes(self) -> int:
        return 1000 + int(os.environ["RANK"])

    def check_device(self) -> None:
        if self.broken:
            raise RuntimeError("illegal memory access")


def load(command: LoadModel) -> FormulaRunner:
    if command.model_path == "endless":
        loading.logger.warning("Loading for ever")
        time.sleep(600)
    if command.model_path == "broken":
        raise RuntimeError("out of memory\nand a page about it")
    return FormulaRunner()


def run(environment: dict[str, str]) -> None:
    """Be the rank that these variables name."""
    os.environ.update(environment)
    loading._load_runner = load
    main()
