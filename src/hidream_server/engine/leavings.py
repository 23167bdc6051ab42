"""Puts and drops what running tasks leave behind: in threads, patiently where it must be.

Knows nothing of leases, nor of when or why something is kept.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from hidream_server.errors import ResultsUnavailableError
from hidream_server.store.blobs import Blobs
from hidream_server.store.pictures import checkpoint_key, claim_of_checkpoint, preview_key
from hidream_server.store.results import Results
from hidream_server.store.statements import Claim
from hidream_server.task import Task

_P = ParamSpec("_P")
_R = TypeVar("_R")

logger = logging.getLogger(__name__)

#: How long a picture waits that cannot be kept now: doubles from the first to the last.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 8.0
#: So many calls to the stores at once.
_THREADS = 4


class Leavings:
    """One group's way to its tasks' pictures, checkpoints and previews, wherever they are kept."""

    def __init__(
        self, results: Results, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._results = results
        self._sleep = sleep
        # Of its own: a store that does not answer holds up no write to the database.
        self._threads = ThreadPoolExecutor(_THREADS, "leavings")

    def close(self) -> None:
        """Begin nothing more; what is being put or dropped comes to its end."""
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
                await self._call(self._results.pictures.put, name, data)
            except ResultsUnavailableError as error:
                logger.warning("The picture is tried again in %g s: %s", pause, error)
                await self._sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE_S)
            else:
                return True
        return False

    async def keep_checkpoint(self, claim: Claim, data: bytes) -> bool:
        """Keep what a task may go on from; False, and no harm, if that is impossible now."""
        return await self._keep(self._results.checkpoints, checkpoint_key(*claim), data)

    async def keep_preview(self, claim: Claim, image_index: int, data: bytes) -> bool:
        """Keep how an image looks; False, and no harm, if that is impossible now."""
        return await self._keep(self._results.previews, preview_key(*claim, image_index), data)

    async def _keep(self, blobs: Blobs, key: str, data: bytes) -> bool:
        try:
            await self._call(blobs.put, key, data)
        except (OSError, ResultsUnavailableError) as error:
            logger.warning("A file of the task could not be written: %s", _said(error))
            return False
        return True

    async def checkpoint_of(self, task: Task) -> bytes | None:
        """Return the checkpoint of the newest earlier attempt, None if there is none or not now."""
        if task.attempt == 1:
            return None
        try:
            return await self._call(self._newest_checkpoint, task)
        except (OSError, ResultsUnavailableError) as error:
            logger.warning("The task begins anew, its checkpoint cannot be read: %s", _said(error))
            return None

    def _newest_checkpoint(self, task: Task) -> bytes | None:
        # One that lost its lease may still be writing its own.
        earlier = [attempt for attempt in self._checkpoints(task.id) if attempt < task.attempt]
        if not earlier:
            return None
        return self._results.checkpoints.get(checkpoint_key(task.id, max(earlier)))

    def _checkpoints(self, task_id: str) -> list[int]:
        """Return of which attempts at a task there are checkpoints: there are never many in all."""
        claims = map(claim_of_checkpoint, self._results.checkpoints.names())
        return [claim[1] for claim in claims if claim is not None and claim[0] == task_id]

    async def drop_checkpoints(self, task_id: str) -> None:
        """Drop what nobody goes on from any more."""

        def drop() -> None:
            for attempt in self._checkpoints(task_id):
                self._results.checkpoints.drop(checkpoint_key(task_id, attempt))

        await self._drop(drop)

    async def drop_previews(self, claim: Claim, num_images: int) -> None:
        """Drop how the images of an attempt looked."""

        def drop() -> None:
            for index in range(num_images):
                self._results.previews.drop(preview_key(*claim, index))

        await self._drop(drop)

    async def _drop(self, drop: Callable[[], None]) -> None:
        # What cannot be dropped now is swept later.
        with suppress(OSError, ResultsUnavailableError):
            await self._call(drop)


def _said(error: OSError | ResultsUnavailableError) -> str | None:
    return error.strerror if isinstance(error, OSError) else str(error)
