"""Finds out, on a loaded model, how long steps of several rows take and how latents look.

All ranks of a group do so together; rank 0's watch counts.
"""

import time
from dataclasses import replace
from typing import Any

from hidream_server.ipc.messages import LoadModel, Profile
from hidream_server.pipeline.png import encode_png
from hidream_server.scheduling.widths import WIDEST, profile
from hidream_server.task import TaskParams
from hidream_server.worker.broadcast import Broadcast
from hidream_server.worker.model_runner import ModelRunner

#: Square pictures of so many pixels a side are timed.
_SIDES = (512, 1024)
#: The quickest of so many steps counts: what disturbs one only makes it longer.
_STEPS = 3


def profile_model(runner: ModelRunner, load: LoadModel, ranks: Broadcast[Any]) -> Profile:
    """Return the profile; raises what a step of one row raises."""
    step_s, beside_s = {}, {}
    for side in _SIDES:
        picture = _unguided(side)
        tokens = runner.tokens(picture)
        most = min(WIDEST, load.max_row_tokens // tokens)

        def measure(rows: int, picture: TaskParams = picture) -> float:
            return ranks.share(_seconds(runner, picture, rows))

        step_s[tokens] = profile(measure, most)
        beside_s[tokens] = ranks.share(_beside(runner, picture))
    preview_map = runner.fit_preview_map() if runner.decodes else []
    return Profile(step_s=step_s, beside_s=beside_s, preview_map=ranks.share(preview_map))


def _unguided(side: int) -> TaskParams:
    return TaskParams(
        prompt="",
        negative_prompt="",
        width=side,
        height=side,
        num_inference_steps=_STEPS,
        guidance_scale=0.0,
        num_images=1,
        seed=0,
    )


def _beside(runner: ModelRunner, picture: TaskParams) -> float:
    """Return the seconds of encoding a prompt and, on rank 0, of making a picture into a file."""
    start = time.perf_counter()
    [image] = runner.begin(replace(picture, prompt=f"{picture.width} by {picture.height}"))
    if runner.decodes:
        encode_png(runner.decode(image), {})
    return time.perf_counter() - start


def _seconds(runner: ModelRunner, picture: TaskParams, rows: int) -> float:
    """Return the seconds of a step of so many rows; infinite where there is no memory for them.

    Ranks that work together must have the memory: what happens to one the others do not know.
    """
    images = [image for _ in range(rows) for image in runner.begin(picture)]
    seconds = float("inf")
    for _ in range(_STEPS):
        start = time.perf_counter()
        try:
            runner.step(images)
        except Exception as error:
            if rows == 1 or runner.together or not runner.is_out_of_memory(error):
                raise
            return float("inf")
        seconds = min(seconds, time.perf_counter() - start)
    return seconds
