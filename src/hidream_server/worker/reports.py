"""What becomes of a task's latents on their way out: pictures, previews, checkpoints.

All of it is made by the outbox's thread, beside the loop.
"""

import logging
import os
import time
from functools import partial

from hidream_server.pipeline.png import encode_png
from hidream_server.pipeline.previews import PreviewMap
from hidream_server.worker.model_runner import ModelRunner
from hidream_server.worker.outbox import Outbox
from hidream_server.worker.task_run import TaskRun

logger = logging.getLogger(__name__)

#: A preview has a picture's width and height divided by this.
_PREVIEW_SCALE = 4


class Reports:
    """Makes what the outbox sends."""

    def __init__(
        self, outbox: Outbox, runner: ModelRunner, preview_map: PreviewMap, checkpoint_s: float
    ) -> None:
        self._outbox = outbox
        self._runner = runner
        self._preview_map = preview_map
        self._checkpoint_s = checkpoint_s

    def image(self, run: TaskRun, index: int) -> None:
        """Send a finished image as a file."""
        self._outbox.image_done(run, index, partial(self._file, run, index))

    def preview(self, run: TaskRun, index: int) -> None:
        """Send an unfinished image as the last step foresaw it."""
        if not self._preview_map:
            return
        make = self._runner.preview(run.images[index], self._preview_map)
        params = run.start.params
        size = (params.width // _PREVIEW_SCALE, params.height // _PREVIEW_SCALE)
        self._outbox.preview(run, index, lambda: encode_png(make(), {}, size))

    def checkpoint(self, run: TaskRun) -> None:
        """Send what a task needs to go on, if the last time was some time ago."""
        if self._outbox.silent or not self._checkpoint_s:
            return
        now = time.monotonic()
        if now - run.saved_at >= self._checkpoint_s:
            run.saved_at = now
            self._outbox.checkpoint(run, self._runner.checkpoint(run.images))

    def _file(self, run: TaskRun, index: int) -> bytes:
        with run.stage("decode_s"):
            try:
                pixels = self._runner.decode(run.images[index])
            except Exception:
                self._check_device()
                raise
        with run.stage("save_s"):
            image = run.images[index]
            lossy = (image.reused_steps, image.fp8_steps)
            return encode_png(pixels, self._runner.about(run.start.params, index, *lossy))

    def _check_device(self) -> None:
        """End the rank, from whatever thread, if its device is broken for good."""
        try:
            self._runner.check_device()
        except Exception:
            logger.exception("The device is broken")
            os._exit(1)
