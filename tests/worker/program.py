"""A rank with a model that is a formula; run as a process of its own by the tests.

A prompt says what goes wrong: "raise" fails in its first step, "slow" takes its time, "no file"
makes no PNG, "break the device" spoils it for all that come after, "die" ends the
process.
"""

import json
import os
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from hidream_server.ipc.messages import LoadModel
from hidream_server.task import TaskParams
from hidream_server.worker import worker
from hidream_server.worker.__main__ import main


class FormulaRunner:
    broken = False

    def warm_up(self) -> float:
        return 0.0

    def begin(self, params: TaskParams) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(params=params, seed=seed, steps_done=0, finished=False)
            for seed in params.seeds
        ]

    def resume(self, images: list[SimpleNamespace], checkpoint: bytes) -> None:
        for image, steps in zip(images, json.loads(checkpoint), strict=True):
            image.steps_done = steps
            image.finished = steps == image.params.num_inference_steps

    def checkpoint(self, images: list[SimpleNamespace]) -> Callable[[], bytes]:
        steps = [image.steps_done for image in images]
        return lambda: json.dumps(steps).encode()

    def step(self, run: SimpleNamespace) -> None:
        if run.params.prompt == "raise":
            raise ValueError("this prompt cannot be painted\nand here is a page about why")
        if run.params.prompt == "die":
            os._exit(9)
        if run.params.prompt == "break the device":
            self.broken = True
            raise RuntimeError("illegal memory access")
        if run.params.prompt == "slow":
            time.sleep(0.2)
        if folder := os.environ.get("TURNS_FOLDER"):
            with open(f"{folder}/{os.environ['RANK']}", "a") as turns:
                turns.write(f"{run.params.prompt} {run.seed} {run.steps_done}\n")
        run.steps_done += 1
        run.finished = run.steps_done == run.params.num_inference_steps

    def decode(self, run: SimpleNamespace) -> np.ndarray:
        return np.full((2, 2, 3), run.seed, dtype=np.uint8)

    def about(self, params: TaskParams, image_index: int) -> dict[str, str]:
        if params.prompt == "no file":
            raise ValueError("a picture without a story")
        return {"seed": str(params.seeds[image_index])}

    def memory_bytes(self) -> int:
        return 0

    def check_device(self) -> None:
        if self.broken:
            raise RuntimeError("illegal memory access")


def load(command: LoadModel) -> FormulaRunner:
    if command.model_path == "endless":
        worker.logger.warning("Loading for ever")
        time.sleep(600)
    if command.model_path == "broken":
        raise RuntimeError("out of memory\nand a page about it")
    return FormulaRunner()


worker._load_runner = load
main()
