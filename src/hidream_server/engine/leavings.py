"""Puts and drops what running tasks leave behind: beside the loop, patiently where it must be.

Knows nothing of leases, nor of why something is kept.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from hidream_server.engine.writer import Write, Writer
from hidream_server.errors import ResultsUnavailableError
from hidream_server.store.blobs import Blobs
from hidream_server.store.pictures import preview_key
from hidream_server.store.results import Results
from hidream_server.task import Task

_P = ParamSpec("_P")
_R = TypeVar("_R")

logger = logging.getLogger(__name__)

#: How long a picture waits that cannot be kept now: doubles from the first to the last.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 8.0
#: So many calls to the stores at once.
_THREADS = 4
#: How long whoever ends waits for what is yet to be written.
_SETTLE_S = 5.0


class Leavings:
    """One group's way to its tasks' pictures, checkpoints and previews, wherever they are kept."""

    def __init__(
        self, results: Results, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self.results = results
        self.sleep = sleep
        self._writer = Writer()
        # Of its own: a store that does not answer holds up no write to the database.
        self._threads = ThreadPoolExecutor(_THREADS, "leavings")

    def listen(self, idle: Callable[[], object]) -> None:
        """Call `idle`, in the event loop, when all that was to be done of a task is done."""
        self._writer.listen(idle)

    def add(self, task_id: str, write: Write) -> None:
        """Do something after all that was to be done of a task before."""
        self._writer.add(task_id, write)

    def check(self) -> None:
        """Raise what something that was added has raised."""
        self._writer.check()

    async def settle(self) -> None:
        """Wait until everything is done, but not for long."""
        await self._writer.settle(_SETTLE_S)

    def close(self) -> None:
        """Begin nothing more; what is being written comes to its end."""
        self._writer.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, verb: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        call = partial(verb, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def keep_picture(self, name: str, data: bytes, still: Callable[[], bool]) -> bool:
        """Keep a picture as soon as that is possible; False if it is `still` wanted no longer.

        Raises OSError where it never will be.
        """
        pause = _FIRST_PAUSE_S
        while still():
            try:
                await self._call(self.results.pictures.put, name, data)
            except ResultsUnavailableError as error:
                logger.warning("The picture is tried again in %g s: %s", pause, error)
                await self.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE_S)
            else:
                return True
        return False

    async def keep_checkpoint(self, task_id: str, data: bytes) -> bool:
        """Keep what a task may go on from; False, and no harm, if that is impossible now."""
        return await self._keep(self.results.checkpoints, task_id, data)

    async def keep_preview(self, task_id: str, image_index: int, data: bytes) -> bool:
        """Keep how an image looks; False, and no harm, if that is impossible now."""
        return await self._keep(self.results.previews, preview_key(task_id, image_index), data)

    async def _keep(self, blobs: Blobs, key: str, data: bytes) -> bool:
        try:
            await self._call(blobs.put, key, data)
        except (OSError, ResultsUnavailableError) as error:
            logger.warning("A file of the task could not be written: %s", _said(error))
            return False
        return True

    async def checkpoint_of(self, task: Task) -> bytes | None:
        """Return the checkpoint of an earlier attempt, None if there is none or not now."""
        if task.attempt == 1:
            return None
        try:
            return await self._call(self.results.checkpoints.get, task.id)
        except (OSError, ResultsUnavailableError) as error:
            logger.warning("The task begins anew, its checkpoint cannot be read: %s", _said(error))
            return None

    def drop_checkpoint(self, task_id: str) -> None:
        """Drop a checkpoint, the one that is being written, too."""
        self._drop(task_id, self.results.checkpoints, [task_id])

    def drop_previews(self, task: Task) -> None:
        """Drop the previews of a task, that which is being written, too."""
        if task.params.num_previews:
            keys = [preview_key(task.id, index) for index in range(task.params.num_images)]
            self._drop(task.id, self.results.previews, keys)

    def _drop(self, task_id: str, blobs: Blobs, keys: Sequence[str]) -> None:
        async def drop() -> None:
            # What cannot be dropped now is swept later.
            with suppress(OSError, ResultsUnavailableError):
                for key in keys:
                    await self._call(blobs.drop, key)

        self.add(task_id, drop)


def _said(error: OSError | ResultsUnavailableError) -> str | None:
    return error.strerror if isinstance(error, OSError) else str(error)
